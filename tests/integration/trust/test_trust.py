"""Real workers and a coordinator that do not believe each other: who is put aside, and who refuses its work."""

import re
from pathlib import Path

import grpc
import pytest
import torch

from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.looking import fails, status
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write
from tests.support.waiting import DEADLINE

REFUSED = pb.SubmitReply.REFUSED


def send_poison(worker: HandWorker) -> pb.SubmitReply:
    done = worker.work()
    done.entries["kept/2.weight"][3] = torch.nan
    return worker.submit(done.messages())


def registering(server: CoordinatorThread, name: str, incarnation: str = "2" * 32) -> pb.RegisterRequest:
    return pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=name, incarnation=incarnation, device="cpu")


def test_a_worker_that_sends_poison_is_put_aside_and_the_run_ends_with_the_bits_of_the_others(
    coordinate: Coordinate, write: Write, expect: Expect, start: Start
) -> None:
    """Its polls and its next incarnation are told why, while a worker of its own works on."""
    path = write()
    server = coordinate(path)
    bad = HandWorker(server, "bad")
    assert [send_poison(bad).verdict for _ in range(3)] == [REFUSED] * 3
    reason = (
        "worker bad is put aside for the rest of this run: 3 of its results were refused, "
        "the last for kept/2.weight: value nan at flat index 3, expected finite"
    )
    for call in (bad.poll, lambda: server.stub.Register(registering(server, "bad"), timeout=DEADLINE)):
        error = fails(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, reason)
    (refusals,) = status(server).refusals
    assert (refusals.worker, refusals.results, refusals.aside) == ("bad", 3, True)
    assert status(server).in_flight == []
    asked = start("status", server.address)
    assert asked.exit_code() == 0
    assert "refused: 3 of bad's results, put aside; the last: kept/2.weight: value nan" in asked.stdout
    good = start("work", "--coordinator", server.address, "--task", GATED_TASK)
    assert good.exit_code() == 0, good.stderr
    assert server.ended() == ""
    found, expected = summarise(server.run), expect(path)
    assert found["refused"] == {"results": 3, "by_worker": {"bad": 3}, "aside": ["bad"]}
    for key in ("model_sha256", "tickets_sha256"):
        assert found[key] == expected[key]


def test_a_worker_process_that_is_put_aside_ends_with_the_reason(
    coordinate: Coordinate, write: Write, start: Start
) -> None:
    server = coordinate(write(checks={"max_update_norm": 1e-6, "max_refusals": 2}))
    worker = start("work", "--coordinator", server.address, "--task", GATED_TASK, "--name", "w")
    assert worker.exit_code() == 1
    assert re.fullmatch(
        rf"coordinator {server.address}: worker w is put aside for the rest of this run: 2 of its results were "
        r"refused, the last for its update has a norm of \S+, expected at most checks.max_update_norm = 1e-06",
        worker.error_line,
    )
    assert server.run.state == "running", "another worker may come"


@pytest.mark.slow
def test_a_run_all_of_whose_workers_are_put_aside_fails_with_the_reason(start: Start, write: Write) -> None:
    run = start("run", write(checks={"max_update_norm": 1e-6}), "--run-dir", "run", "--workers", 1)
    assert run.exit_code() == 1
    assert "no worker is left: worker-1: " in run.error_line
    assert "worker worker-1 is put aside for the rest of this run: 3 of its results were refused" in run.error_line


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--max-epochs", 1), r"the coordinator's plan\.train\.epochs = 2: expected 1 to 1 \(--max-epochs\)"),
        (
            ("--max-memory", 1e-6),
            r"the coordinator's model takes [\d.]+ kB, and this worker takes on 1.1 kB \(--max-memory\): .*θ_0 .*",
        ),
    ],
)
def test_a_worker_refuses_what_is_beyond_its_bounds_and_hands_it_back(
    coordinate: Coordinate, write: Write, start: Start, options: tuple[object, ...], reason: str
) -> None:
    server = coordinate(write())
    worker = start("work", "--coordinator", server.address, "--task", GATED_TASK, "--name", "w", *options)
    assert worker.exit_code() == 1
    assert re.fullmatch(reason, worker.error_line), worker.error_line
    assert (status(server).in_flight, status(server).bytes_down) == ([], 0) or "--max-epochs" in options
    rows = server.run.database.assignments(1)
    assert {row.state for row in rows} == {"waiting"}
    assert all(re.fullmatch(f"w: {reason}", row.reason) for row in rows if row.reason)
    assert any(row.reason for row in rows) == ("--max-epochs" in options)
    assert all(row.forgiven == row.attempt for row in rows), "what was not begun costs no attempt"


@pytest.mark.parametrize("name", ["", "w" * 257, "w\x1b[2J", "w:x"])
def test_a_worker_without_a_proper_name_is_turned_away(server: CoordinatorThread, name: str) -> None:
    error = fails(lambda: server.stub.Register(registering(server, name), timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    shown = re.escape(name[:64].replace("\x1b", "?"))
    assert re.fullmatch(f"name '{shown}': expected 1 to 256 .*", error.details() or ""), error.details()


@pytest.mark.parametrize("incarnation", ["a:b", "", "1" * 31, "1" * 33])
def test_a_worker_without_a_proper_incarnation_is_turned_away(server: CoordinatorThread, incarnation: str) -> None:
    error = fails(lambda: server.stub.Register(registering(server, "w", incarnation), timeout=DEADLINE))
    reason = f"incarnation '{incarnation}': expected 32 hexadecimal digits"
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_an_assignments_id_reaches_no_path(server: CoordinatorThread, worker: HandWorker, tmp_path: Path) -> None:
    """One that names the same attempt in other words is not taken as it was written."""
    done = worker.work()
    stem, client = done.result.assignment_id.split("-")[0][1:], done.result.assignment_id.split("-")[1]
    done.result.assignment_id = f"r000{stem}-{client}-a01"
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    (file,) = (server.run.path / "results").iterdir()
    assert re.fullmatch(rf"r{stem}-{client}-a1\.\d+\.safetensors", file.name)
    for name in ("../../x", "r1-c0-a1/../../x", "/x", "r1-c0-a1\0"):
        done.result.assignment_id = name
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.STALE
    assert [path.name for path in tmp_path.rglob("x*")] == []
