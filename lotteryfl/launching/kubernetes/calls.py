"""Calls of kubectl and helm, to one namespace of one cluster."""

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Any, NamedTuple

from lotteryfl.common.commandline import given
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable

_MOST_LINES = 8
"""Of what a command says of its trouble."""


class Target(NamedTuple):
    """Where a launch is."""

    context: str
    """Of kubectl's configuration; '': it has none, as within a pod."""
    namespace: str
    release: str

    def kubectl(self, *arguments: str) -> list[str]:
        """Return a command line of kubectl."""
        return ["kubectl", *given(context=self.context, namespace=self.namespace), *arguments]

    def helm(self, *arguments: str) -> list[str]:
        """Return a command line of helm."""
        return ["helm", *arguments, *given(kube_context=self.context, namespace=self.namespace)]

    def labelled(self) -> str:
        """Return the selector of all that belongs to the release."""
        return f"--selector=app.kubernetes.io/instance={self.release}"


async def called(command: Sequence[str], given_input: str | None = None) -> str:
    """Run a command, and return what it has printed.

    Args:
        command: its words.
        given_input: what it reads; secrets go this way, and never into an argument.

    Raises:
        LotteryFLError: it cannot be started, or has failed, by what it says itself.
    """
    process = await started(command, stdin=DEVNULL if given_input is None else PIPE, stdout=PIPE)
    try:
        out, said = await process.communicate(None if given_input is None else given_input.encode())
    except BaseException:
        await ended(process)
        raise
    if process.returncode != 0:
        raise LotteryFLError(failure(command, process.returncode, said))
    return out.decode(errors="replace")


async def asked(command: Sequence[str]) -> Any:
    """Run a command that prints JSON, and return that.

    Raises:
        LotteryFLError: it has failed, or has printed something else.
    """
    out = await called(command)
    try:
        return json.loads(out)
    except ValueError as error:
        raise LotteryFLError(f"{' '.join(command[:2])}: printed no JSON: {error}") from error


async def started(command: Sequence[str], *, stdin: int = DEVNULL, stdout: int) -> Process:
    """Start a command, whose words of trouble are for us to read.

    Raises:
        LotteryFLError: it is not installed.
    """
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=stdout, stderr=PIPE)
    except OSError as error:
        raise LotteryFLError(f"{command[0]}: cannot be started: {os.strerror(error.errno or 0)}") from error


async def ended(process: Process) -> None:
    """Stop a command that was started, and wait until it is gone."""
    if process.returncode is None:
        process.kill()
    await process.wait()


def failure(command: Sequence[str], code: int | None, said: bytes) -> str:
    """Return in a line how a command has failed."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    words = [word for word in command[1:] if not word.startswith("-")][:2]
    what = " ".join([command[0], *words])
    return printable(f"{what}: {'; '.join(lines[-_MOST_LINES:]) or f'exit code {code}'}")
