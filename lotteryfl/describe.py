"""Where a run stands, in lines for people."""

from rich.filesize import decimal

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.named import clients_named


def describe_round(status: pb.RunStatus) -> str:
    """Return the last committed round in one line."""
    last = status.last
    name = f"round {last.round}/{status.rounds}" if last.round <= status.rounds else "every client, once more"
    broadcasts = f", broadcast to {last.broadcasts}" if last.broadcasts else ""
    refused = f", {last.refused} refused" if last.refused else ""
    privacy = f", ε {last.epsilon:.3g} (δ {last.delta:g})" if last.HasField("epsilon") else ""
    stragglers = f", without {clients_named(last.stragglers)}" if last.stragglers else ""
    own = (
        f", in this round {decimal(last.bytes_down)} down, {decimal(last.bytes_up)} up"
        if last.HasField("bytes_down")
        else ""
    )
    return (
        f"{name}: {last.clients} clients, accuracy {last.accuracy_downloaded:.3f} downloaded, "
        f"{last.accuracy_personalised:.3f} personalised, density {last.density:.3f}"
        f"{own}{broadcasts}{privacy}{refused}{stragglers}"
    )


def describe_refusals(refusals: pb.WorkerRefusals) -> str:
    """Return in one line how many results of a worker were refused, and what has become of it."""
    aside = ", put aside" if refusals.aside else ""
    return f"refused: {refusals.results} of {refusals.worker}'s results{aside}; the last: {refusals.reason}"
