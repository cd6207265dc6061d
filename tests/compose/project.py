"""A project of Compose's: what it is made of, what it says, and how its containers have ended."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.paths import ROOT

LONGEST = 1500.0
"""Seconds for an image to be built that nobody has built here before."""


def compose() -> list[str]:
    """Return how Compose is called here, version 1 or 2; nothing where it or an engine is missing."""
    for command in (["docker-compose"], ["docker", "compose"]):
        there = shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True)
        if there and there.returncode == 0:
            engine = ["docker", "version"]
            return command if subprocess.run(engine, capture_output=True).returncode == 0 else []
    return []


def call(*command: object, **variables: str) -> str:
    """Run a program to its end, in the checkout; return what it says on stdout."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=LONGEST
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Project:
    """Containers, networks and volumes under a name, gone with the end of the block; images stay, for the next time."""

    def __init__(self, name: str, files: Sequence[str | Path], **variables: str) -> None:
        self._compose = [*compose(), "--project-name", name, *(f"--file={ROOT / file}" for file in files)]
        self.variables = variables

    def __enter__(self) -> "Project":
        return self

    def __exit__(self, *_: object) -> None:
        self("down", "--volumes", "--timeout=1")

    def __call__(self, *arguments: object) -> str:
        """Call Compose for it; return what it says."""
        return call(*self._compose, *arguments, **self.variables)

    def containers(self, service: str = "") -> list[str]:
        """Return the ids of its containers, or of those of a service, also of those that have ended."""
        return self("ps", "--all", "--quiet", *([service] if service else [])).split()

    def said(self, service: str, pattern: str) -> None:
        """Wait until a line of a service that is one container matches."""
        (container,) = self.containers(service)
        command = ["docker", "logs", "--follow", container]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as following:
            assert following.stdout is not None
            lines = []
            for line in following.stdout:
                lines.append(line)
                if re.search(pattern, line):
                    following.kill()
                    return
        raise AssertionError(f"{pattern!r} not in:\n{''.join(lines)}")

    def exit_codes(self) -> dict[str, int]:
        """Wait for the end of all its containers; return how each has ended, as worker_1."""
        containers = self.containers()
        codes = call("docker", "wait", *containers).split()
        labels = [
            f'{{{{index .Config.Labels "com.docker.compose.{label}"}}}}' for label in ("service", "container-number")
        ]
        names = call("docker", "inspect", f"--format={'_'.join(labels)}", *containers).split()
        return {name: int(code) for name, code in zip(names, codes, strict=True)}
