"""Where a run stands, in lines for people."""

from collections.abc import Sequence

from rich.filesize import decimal

from lotteryfl.protos import lotteryfl_pb2 as pb

_MOST_NAMED = 10
"""Clients that sat a round out."""


def describe_round(status: pb.RunStatus) -> str:
    """Return the last committed round in one line."""
    last = status.last
    name = f"round {last.round}/{status.rounds}" if last.round <= status.rounds else "every client, once more"
    broadcasts = f", broadcast to {last.broadcasts}" if last.broadcasts else ""
    refused = f", {last.refused} refused" if last.refused else ""
    privacy = f", ε {last.epsilon:.3g} (δ {last.delta:g})" if last.HasField("epsilon") else ""
    stragglers = f", without {_clients(last.stragglers)}" if last.stragglers else ""
    return (
        f"{name}: {last.clients} clients, accuracy {last.accuracy_downloaded:.3f} downloaded, "
        f"{last.accuracy_personalised:.3f} personalised, density {last.density:.3f}, "
        f"{decimal(status.bytes_down)} down, {decimal(status.bytes_up)} up{broadcasts}{privacy}{refused}{stragglers}"
    )


def describe_refusals(refusals: pb.WorkerRefusals) -> str:
    """Return in one line how many results of a worker were refused, and what has become of it."""
    aside = ", put aside" if refusals.aside else ""
    return f"refused: {refusals.results} of {refusals.worker}'s results{aside}; the last: {refusals.reason}"


def _clients(clients: Sequence[int]) -> str:
    named = ", ".join(map(str, clients[:_MOST_NAMED]))
    others = f" and {len(clients) - _MOST_NAMED} more" if len(clients) > _MOST_NAMED else ""
    return f"client{'s'[: len(clients) > 1]} {named}{others}"
