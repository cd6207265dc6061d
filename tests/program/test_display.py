"""The lines that a log gets."""

import io

import pytest
from rich.console import Console

from lotteryfl.describe import describe_round
from lotteryfl.display import RunDisplay
from lotteryfl.protos import lotteryfl_pb2 as pb


@pytest.mark.parametrize(
    ("stragglers", "text"),
    [
        ([3], ", without client 3"),
        ([0, 1], ", without clients 0, 1"),
        (range(12), ", without clients 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
        ([], " up"),
    ],
)
def test_stragglers_are_named_but_not_all_of_many(stragglers: list[int], text: str) -> None:
    assert describe_round(pb.RunStatus(last=pb.RoundSummary(stragglers=stragglers, bytes_down=0, bytes_up=0))).endswith(
        text
    )


def test_a_log_has_one_line_for_a_round_and_one_for_a_retry() -> None:
    file = io.StringIO()
    again = "trying again: round 2: 1 of 3 results, 2 needed: clients were given up"
    first = pb.RoundSummary(round=1, clients=3)
    with RunDisplay(Console(file=file)) as display:
        for status in (
            pb.RunStatus(rounds=2),
            pb.RunStatus(rounds=2, round=1, last=first),
            pb.RunStatus(rounds=2, round=1, last=first, reason=again),
            pb.RunStatus(rounds=2, round=1, last=first, reason=again, results=1),
            pb.RunStatus(rounds=2, round=1, last=first, reason="why", state=pb.RunStatus.FAILED),
        ):
            display.show(status)
    lines = file.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["round 1/2", "trying again"]
    assert lines[1] == again
