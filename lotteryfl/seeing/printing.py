"""A run followed in lines, where there is no terminal to draw on."""

from collections.abc import Callable, Iterable

from lotteryfl.common.text import printable
from lotteryfl.describe import describe_round, describe_state
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.look import Look


def print_looks(looks: Iterable[Look], tell: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Tell in a line of every round, and how the run has ended.

    Args:
        looks: at the run, the last of which is at its end.
        tell: is told of rounds, and of the end.
        note: is told of trouble.
    """
    trouble = ""
    for look in looks:
        for round_ in look.rounds:
            tell(printable(describe_round(_after(look.status, round_))))
        if look.trouble not in ("", trouble):
            note(printable(f"{look.trouble}; waiting for it"))
        trouble = look.trouble
        if look.is_last:
            tell(printable(f"the run has {describe_state(look.status)}"))


def _after(status: pb.RunStatus, last: pb.RoundSummary) -> pb.RunStatus:
    """Return a status as it was after a round, as far as a line about that needs it."""
    return pb.RunStatus(rounds=status.rounds, score=status.score, last=last)
