"""Times, curves and what is drawn, from messages alone."""

import io
import re

import pytest
from rich.console import Console

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.lines import describe, duration
from lotteryfl.seeing.look import Look
from lotteryfl.seeing.screen import Screen
from lotteryfl.seeing.sparkline import sparkline
from lotteryfl.server.store.rundb.timeleft import time_left


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h"), (3599.6, "1 h 0 min")],
)
def test_a_time_is_said_in_two_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_curve_goes_from_its_least_to_its_greatest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 10, 10], 2) == "▁█"
    assert sparkline(range(1000), 10) == "▁▁▂▃▄▅▆▇██"
    assert sparkline([3, 3], 8) == "▄▄"
    assert sparkline([], 8) == sparkline([1], 0) == ""


def test_the_time_left_is_the_median_of_the_last_rounds_for_each_that_is_left() -> None:
    assert time_left([], 3) is None
    assert time_left([], 0) == 0.0
    assert time_left([1000.0] + [10.0] * 9 + [40.0], 4) == 40.0
    assert time_left([1000.0] * 20 + [2.0] * 10, 4) == 8.0


def look(**changes: object) -> Look:
    worker = pb.WorkerStatus(
        machine=pb.WorkerMachine(worker="gpu-\x1b[2J7", device="cuda:0", device_memory=80 * 10**9),
        holds_all=True,
        silent=3.0,
        holdings=[pb.Holding(client=5, attempt=2, epoch=1, step=9, loss=0.25, held=70, lease=20, arrived=True)],
        load=pb.WorkerLoad(memory=2 * 10**9, device_memory=10**9, steps_per_second=12.0),
    )
    lost = pb.WorkerStatus(machine=pb.WorkerMachine(worker="zz"), clients=3, silent=90.0, is_lost=True)
    bad = pb.WorkerStatus(machine=pb.WorkerMachine(worker="bad"), aside="worker bad is put aside")
    status = pb.RunStatus(
        strategy="lotteryfl", clients=9, round=2, rounds=4, results=1, assignments=3, workers=1, seconds_left=130.0
    )
    rounds = [
        pb.RoundSummary(round=n, accuracy_downloaded=n / 10, accuracy_personalised=n / 5, density=1 / n, bytes_up=n)
        for n in (1, 2)
    ]
    event = pb.Event(id=1, at="2026-11-27T10:00:00.000Z", kind="left", worker="w", text="gone\n\x1b[31mred")
    parts = {"fleet": pb.Fleet(workers=[worker, lost, bad]), "rounds": rounds, "events": [event], **changes}
    return Look(status, **parts)  # type: ignore[arg-type]


def drawn(found: Look, width: int, height: int = 40) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, highlight=False)
    console.print(Screen("runs/x", console).drawn(found))
    return file.getvalue().splitlines()


def test_a_wide_terminal_has_it_all_and_no_control_characters() -> None:
    lines = drawn(look(), 160)
    assert lines[0].strip() == "runs/x: lotteryfl, 9 clients: running"
    assert lines[1].startswith("round 3/4, 0 bytes down")
    assert lines[2].strip() == "1 of 3 results, 0 in flight, about 2 min 10 s left"
    assert re.match(r"accuracy downloaded +0\.200 ▁█", lines[3])
    assert not any(line.startswith("training loss") for line in lines), "it is kept back"
    (worker,) = (line for line in lines if line.startswith("gpu-?[2J7"))
    for part in (
        "3 s ago",
        "cuda:0, 80.0 GB",
        "2.0 GB, 1.0 GB of its device, 12.0 steps/s",
        "client 5: epoch 1, step 9",
    ):
        assert part in worker
    names = [line.split()[0] for line in lines if line.startswith(("gpu", "zz", "bad"))]
    assert names == ["zz", "bad", "gpu-?[2J7"], "who is lost or aside comes first"
    assert any("1 min 30 s ago, LOST" in line for line in lines)
    assert any(line.rstrip().endswith("left w: gone??[31mred") for line in lines)


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_narrow_terminal_loses_columns_and_no_line_is_too_long(width: int) -> None:
    lines = drawn(look(trouble="coordinator 127.0.0.1:1: cannot be reached: " + "x" * 200), width)
    assert max(map(len, lines)) <= width
    assert not any("cuda" in line for line in lines)
    assert any(line.startswith("! coordinator") for line in lines)


def test_many_workers_and_events_leave_room_for_each_other() -> None:
    workers = [pb.WorkerStatus(machine=pb.WorkerMachine(worker=f"w{n:03}")) for n in range(300)]
    events = [pb.Event(id=n, at="", kind="joined", worker=f"w{n}", text="on cpu") for n in range(300)]
    lines = drawn(look(fleet=pb.Fleet(workers=workers), events=events), 100, 30)
    assert len(lines) <= 30
    assert any(re.match(r"and 29\d more", line) for line in lines)
    assert any("joined w299" in line for line in lines)


def test_workers_and_clients_are_lines_of_a_status() -> None:
    found = look()
    first = pb.ClientStatus(client=0, round=2, downloaded=0.5, personalised=0.75, density=0.1, mask="ab" * 32)
    first.worker, first.left_out = "w", 1
    clients = pb.Clients(clients=[first, pb.ClientStatus(client=1, left_out=2)])
    text = describe(found.status, found.fleet, clients)
    assert "\ntime left: about 2 min 10 s, as the last rounds went\n" in text
    assert "  gpu-?[2J7 (cuda:0, 80.0 GB) was heard of 3 s ago\n    holds every client, takes 2.0 GB, 1.0 GB of" in text
    assert "client 5: epoch 1, step 9, loss 0.250; for 1 min 10 s, attempt 2, its lease ends in 20 s" in text
    assert "  zz was heard of 90 s ago\n    lost, holds 3 clients\n" in text
    assert "  bad gets no more work: worker bad is put aside" in text
    columns = [" ".join(line.split()) for line in text.splitlines()[-3:]]
    assert columns == [
        "client round downloaded personalised density mask seconds left out served by",
        "0 2 0.500 0.750 0.100 abababab 0.0 1 w",
        "1 - 2",
    ]
    clients.withheld = True
    clients.clients[0].ClearField("downloaded")
    withheld = describe(found.status, found.fleet, clients).splitlines()
    assert withheld[-4].strip().startswith("scores, densities and masks are withheld: the run promises privacy")
    assert withheld[-2].split()[:4] == ["0", "2", "-", "0.750"]
