"""Processes of the program that have imported torch before they begin: forked off one that waits, which spares each of
hundreds its two seconds. What a process is told, and how it ends, is as for one that is started anew."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import IO, NoReturn

from tests.support.paths import ROOT

_AT_START = ("COV", "GRPC_", "LD_", "LOTTERYFL_FAULTS", "MALLOC_", "MKL_", "OMP_", "PYTHON", "TORCH_")
"""What variables begin with that are looked at when a process starts or imports something."""
_COMMANDS = {"reproduce", "run", "serve", "simulate", "work"}
"""Those that import torch."""
_MODULES = (
    "torch._dynamo",  # an optimizer's first step imports it
    "sklearn.datasets",
    "lotteryfl.program",
    "lotteryfl.commands.run",
    "lotteryfl.commands.work",
    "lotteryfl.running.local",
    "lotteryfl.running.simulate",
    "lotteryfl.server.results.finaltable",
    "lotteryfl.server.results.summary",
)
_MOST_BYTES = 1 << 20
_PROGRAM = "from tests.support.warm import serve; serve(); from lotteryfl.program import main; main()"
"""What the process that waits runs, and each that is forked off it."""


class Forked:
    """One process of the program, as `subprocess.Popen` has it."""

    def __init__(self, pid: int, stdout: IO[str], stderr: IO[str], told: socket.socket) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self._told = told
        self._code: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, seconds: float) -> int:
        if self._code is None:
            self._told.settimeout(seconds)
            try:
                self._code = os.waitstatus_to_exitcode(int(self._told.recv(64)))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(["lotteryfl"], seconds) from None
            self._told.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _Waiting:
    """The process that others are forked off; it ends with the one that has started it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
            subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # as those of its processes are: a stream knows from its beginning what it is
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> Forked:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (out, out_), (err, err_) = os.pipe(), os.pipe()
        try:
            request = json.dumps({"arguments": list(arguments), "cwd": cwd, "env": dict(env)}).encode()
            socket.send_fds(self._socket, [request], [theirs.fileno(), out_, err_])
        finally:
            theirs.close()
            os.close(out_)
            os.close(err_)
        return Forked(int(ours.recv(64)), os.fdopen(out), os.fdopen(err), ours)


@cache
def _waiting() -> _Waiting:
    return _Waiting()


def forked(arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> Forked | None:
    """Start the program, with `arguments` from its name on; None where only a process that starts anew is right."""
    if not _COMMANDS.intersection(arguments) or sys.platform != "linux" or any(name.startswith("COV") for name in env):
        return None
    known = _waiting().environment
    differing = {name for name in known.keys() | env.keys() if known.get(name) != env.get(name)}
    if any(name.startswith(_AT_START) for name in differing):
        return None
    return _waiting().start(arguments, cwd, env)


def serve() -> None:
    """Fork a process for every request; return in each of them."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    for name in _MODULES:
        import_module(name)
    gc.freeze()  # what all share is not gone through, and so not copied, by each
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that mind a process are waited for by nobody
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            asked.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), *descriptors)
                return
            _mind(pid, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _mind(pid: int, told: int, out: int, err: int) -> NoReturn:
    """Tell of a process how it is called, and how it has ended."""
    os.setsid()  # what is sent to its group is not meant for who minds it
    os.close(out)
    os.close(err)
    os.write(told, str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        os.write(told, str(status).encode())
    os._exit(0)


def _become(request: dict[str, object], told: int, out: int, err: int) -> None:
    """Be a process as it is asked for: all but its program runs."""
    os.setsid()
    os.close(told)
    for given, wanted in ((out, 1), (err, 2)):
        os.dup2(given, wanted)
        os.close(given)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    os.chdir(str(request["cwd"]))
    sys.argv = list(request["arguments"])  # type: ignore[call-overload]
