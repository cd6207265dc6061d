"""Fault points: nothing unless asked for, each fault at its passage, once; and every point is in the code."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from lotteryfl.common import faults
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.faults import (
    ACTIONS,
    COORDINATOR_POINTS,
    LENGTHENING_POINTS,
    SETUP_POINTS,
    TRACKER_POINTS,
    WORKER_POINTS,
    Fault,
    LostError,
    Plan,
)
from tests.support.paths import ROOT
from tests.support.waiting import DEADLINE


def plan(text: str, log: Path | None = None) -> Plan:
    found = Plan.of({"LOTTERYFL_FAULTS": text} | ({"LOTTERYFL_FAULTS_LOG": str(log)} if log else {}))
    assert found is not None
    return found


def stumbles(plan_: Plan, point: str) -> bool:
    try:
        plan_.passed(point)
    except OSError as error:
        return (error.errno, error.filename) == (errno.ENOSPC, point)
    return False


def test_nothing_happens_unless_asked_for() -> None:
    assert Plan.of({}) is None
    chunks = [b"one", b"two"]
    assert faults.between_chunks(chunks) is chunks, "a stream's chunks take a longer way"
    for point in (*SETUP_POINTS, *COORDINATOR_POINTS, *WORKER_POINTS):
        faults.fault(point)


def test_a_fault_happens_once_at_its_passage_or_the_next_that_is_free() -> None:
    faulty = plan("ack-received:raise@2, ack-received:raise@3,lease-written:raise")
    assert [stumbles(faulty, "ack-received") for _ in range(5)] == [False, True, True, False, False]
    assert [stumbles(faulty, "lease-written") for _ in range(3)] == [True, False, False]
    crowded = plan("ack-received:raise,ack-received:lose")
    assert stumbles(crowded, "ack-received")
    with pytest.raises(LostError):
        crowded.passed("ack-received")


def test_what_is_in_the_log_does_not_happen_again(tmp_path: Path) -> None:
    log = tmp_path / "faults"
    text = "ack-received:raise@2,ack-received:raise@3"
    first = plan(text, log)
    assert [stumbles(first, "ack-received") for _ in range(2)] == [False, True]
    restarted = plan(text, log)
    assert [stumbles(restarted, "ack-received") for _ in range(4)] == [False, False, True, False]
    assert [line.split()[1] for line in log.read_text().splitlines()] == [
        "ack-received:raise@2",
        "ack-received:raise@3",
    ]


@pytest.mark.parametrize("text", ["ack-received", "ack:die", "ack-received:explode", "ack-received:die@0", ",", "a b"])
def test_what_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(LotteryFLError, match="LOTTERYFL_FAULTS"):
        plan(text)


def test_a_fault_reads_what_it_writes() -> None:
    for action in ACTIONS:
        fault = Fault("lease-written", action, 3)
        assert Fault.parse(str(fault)) == fault
    assert Fault.parse("ack-received:die") == Fault("ack-received", "die", 1)


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 5])
def test_the_points_between_the_chunks_of_a_stream(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    monkeypatch.setattr(faults, "_plan", type("Recorder", (), {"passed": passed.append}))
    stream = iter(faults.between_chunks(range(chunks)))
    for number in range(chunks):
        assert next(stream) == number
        assert len(passed) == min(number, 2)  # after the chunk before it
    assert list(stream) == []
    assert passed == [*("chunk-first-sent", "chunk-middle-sent")[: max(0, chunks - 1)], "chunk-last-sent"]


def run_python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from lotteryfl.common.faults import fault\n{program}"],
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_process_dies_at_its_point() -> None:
    dead = run_python("fault('lease-written'); print('passed once', flush=True); fault('lease-written'); print('no')",
                      LOTTERYFL_FAULTS="lease-written:die@2")  # fmt: skip
    assert (dead.returncode, dead.stdout) == (-signal.SIGKILL, "passed once\n")


def test_a_process_stops_at_its_point_until_it_is_continued() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from lotteryfl.common.faults import fault\nfault('lease-written')\nprint('went on')"],
        env=os.environ | {"LOTTERYFL_FAULTS": "lease-written:stop", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, b"went on\n")


@pytest.mark.parametrize("action", ["cut", "lose"])
def test_connections_are_cut_and_listeners_are_not(action: str) -> None:
    local, peer = socket.socketpair()
    with local, peer, socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        near = socket.create_connection(address, timeout=DEADLINE)
        far, _ = listener.accept()
        with near, far:
            failing = pytest.raises(LostError, match=r"^lost at ack-received$") if action == "lose" else nullcontext()
            with failing:
                plan(f"ack-received:{action}").passed("ack-received")
            assert (near.recv(1), far.recv(1)) == (b"", b"")
        local.sendall(b"x")
        assert peer.recv(1) == b"x"
        socket.create_connection(address, timeout=DEADLINE).close()


def test_every_point_is_in_the_code() -> None:
    """Files' points are made of their labels; those between chunks are the stream's own."""
    product = [path for folder in ("client", "common", "server") for path in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text() for path in product)
    steps = set(re.findall(r'\bself\._fault\("([^"]+)"\)', code))
    named = {point for point in re.findall(r'\bfault\(f?"([^"]+)"\)', code) if "{" not in point}
    kinds = ("results", "masks", "models", "experiment", "lengthened")
    expected = {*SETUP_POINTS, *COORDINATOR_POINTS, *WORKER_POINTS, *LENGTHENING_POINTS, *TRACKER_POINTS}
    assert named | {f"{kind}-{step}" for kind in kinds for step in steps} == {
        point for point in expected if not point.startswith("chunk-")
    }
