"""The lines that a log gets."""

import io
import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from rich.console import Console

from lotteryfl.commands.inspect import status
from lotteryfl.describe import describe_round
from lotteryfl.display import RunDisplay
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import Bench, tiny_experiment


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


def test_progress_says_on_what_devices_the_workers_are() -> None:
    file = io.StringIO()
    with RunDisplay(Console(file=file, force_terminal=True, width=200)) as display:
        display.show(pb.RunStatus(rounds=2, workers=3))
        display.show(pb.RunStatus(rounds=2, workers=4, devices={"cuda": 3, "cpu": 1}))
    shown = file.getvalue()
    assert "4 workers (1 cpu, 3 cuda), " in shown


def test_a_status_as_json_has_every_field(drive: Callable[..., Bench]) -> None:
    bench = drive(tiny_experiment())
    done = CliRunner().invoke(status, [str(bench.path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["state"], found["clients"], found["machines"], found["devices"]) == ("RUNNING", 4, [], {})
    with_presence = {"last", "shared", "seconds_left"}
    assert found["is_driven"], "its coordinator is here"
    assert found.keys() | with_presence == {*pb.RunStatus.DESCRIPTOR.fields_by_name, "is_driven"}
