"""What cannot be printed is an error of one line; the other side's words are printed without control characters."""

import logging
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import grpc
import pytest

from lotteryfl.common.telemetry.logs import TextLines
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from tests.support.paths import ROOT
from tests.support.processes import PROGRAM

COMMANDS = (("--help",), ("--version",), ("run", "--help"), ("init",), ("status", "run"), ("verify", "run"))


def told(process: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line of a failure."""
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("lotteryfl: ")
    return line.removeprefix("lotteryfl: ")


@pytest.fixture
def environment(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(finished_run.parent)
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_one_line(arguments: tuple[str, ...], unbuffered: str, environment: dict[str, str]) -> None:
    environment["PYTHONUNBUFFERED"] = unbuffered
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert told(process) == "stdout: cannot be written: No space left on device"


@pytest.mark.parametrize("arguments", [("--help",), ("status", "run")])
def test_a_reader_that_is_gone_is_one_line(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        process = subprocess.run(
            [PROGRAM, *arguments], stdout=writes, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    finally:
        os.close(writes)
    assert told(process) == "stdout: cannot be written: Broken pipe"


def test_a_closed_stdout_is_one_line_before_anything_is_done(environment: dict[str, str]) -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" init >&-', PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert told(process) == "stdout: is closed; send what is not wanted to /dev/null"
    assert not Path("experiment.toml").exists()


def test_a_full_stderr_is_no_traceback(environment: dict[str, str]) -> None:
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" status nowhere 2>/dev/full', PROGRAM],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")


class Mocking(pb_grpc.CoordinatorServicer):
    """A coordinator that paints the terminals of whoever asks it."""

    def GetRun(self, request: pb.GetRunRequest, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802 - gRPC's name
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "\x1b]0;title\x07\x1b[2J\u202egone")

    def Register(self, request: pb.RegisterRequest, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "\x1b]0;title\x07\x1b[2J\u202egone")


def test_a_coordinators_words_reach_no_terminal_as_they_are(environment: dict[str, str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        pb_grpc.add_CoordinatorServicer_to_server(Mocking(), server)  # type: ignore[abstract] # the others are not called
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        for arguments in (("status", address), ("work", "--coordinator", address)):
            process = subprocess.run(
                [PROGRAM, *arguments], capture_output=True, text=True, env=environment, check=False
            )
            assert told(process) == f"coordinator {address}: ?]0;title??[2J?gone"
        server.stop(None).wait()


def test_log_lines_have_no_control_characters() -> None:
    record = logging.makeLogRecord({"msg": "%s: refused: %s", "args": ("r1-c1-a1", "\x1b[31mred\nsecond line")})
    assert TextLines("%(message)s").format(record) == "r1-c1-a1: refused: ?[31mred?second line"
