"""Where a run stands, in lines for people."""

from rich.filesize import decimal

from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.named import clients_named

_MOST_VALUES = 4
"""Metrics of a task's own objective; tables and reports have them all."""


def state_of(status: pb.RunStatus, *, is_driven: bool = True) -> str:
    """Return where a run stands, in a word: running, finished or failed; stopped, if nobody drives it to its end."""
    if status.state == pb.RunStatus.RUNNING and not is_driven:
        return "stopped"
    return pb.RunStatus.State.Name(status.state).lower()


def describe_state(status: pb.RunStatus, *, is_driven: bool = True) -> str:
    """Return the same, with the reason where there is one."""
    state = state_of(status, is_driven=is_driven)
    reason = status.reason or ("no process has it" if state == "stopped" else "")
    return f"{state}{': ' if reason else ''}{reason}"


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
        f"{name}: {last.clients} clients, {_scores(status)}, density {last.density:.3f}"
        f"{own}{broadcasts}{privacy}{refused}{stragglers}"
    )


def describe_shared(shared: pb.SharedModel, score: str) -> str:
    """Return in one line what the shared model was worth when it was measured last.

    Args:
        shared: what was measured.
        score: what the task's objective is judged by; empty: it is classification.
    """
    judged = Score.of(score)
    names = [name for name in judged.first_of(shared.values) if score or name in (judged.name, "loss")]
    told = [f"{name} {shared.values[name]:{judged.digits}}" for name in names[:_MOST_VALUES]]
    more = [f"{len(names) - _MOST_VALUES} more values"] if len(names) > _MOST_VALUES else []
    when = f"after round {shared.after}" if shared.after else "before round 1"
    return f"shared model {when}: {', '.join(told + more)} on {shared.examples:,} global test examples"


def _scores(status: pb.RunStatus) -> str:
    """Return what the last committed round was worth: its accuracies, or all that the task's objective measures."""
    last = status.last
    if not status.score:
        return f"accuracy {last.accuracy_downloaded:.3f} downloaded, {last.accuracy_personalised:.3f} personalised"
    score = Score(status.score, own=True)
    names = score.first_of(name for name in last.downloaded if score.name == name or name != "loss")
    told = [
        f"{name} {last.downloaded[name]:{score.digits}} downloaded, "
        f"{last.personalised[name]:{score.digits}} personalised"
        for name in names[:_MOST_VALUES]
    ]
    more = [f"{len(names) - _MOST_VALUES} more values"] if len(names) > _MOST_VALUES else []
    return ", ".join(told + more)


def describe_refusals(refusals: pb.WorkerRefusals) -> str:
    """Return in one line how many results of a worker were refused, and what has become of it."""
    aside = ", put aside" if refusals.aside else ""
    return f"refused: {refusals.results} of {refusals.worker}'s results{aside}; the last: {refusals.reason}"
