"""What every script of a launch by Slurm begins with, and how the program is called in it.

What a user wrote as a value is one word there; the lines of `setup` are code and meant to be.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from lotteryfl.launching.launcher import Request
from lotteryfl.launching.shell import called, prepared


def shebang(request: Request) -> str:
    """Return the first line; only a login shell is sure to know `module`."""
    return "#!/bin/bash -l" if request.settings.slurm.modules else "#!/bin/bash"


def directives(request: Request, name: str, log: str) -> Iterator[str]:
    """Return the lines that sbatch reads."""
    settings = request.settings.slurm
    # A % in its own place is Slurm's; any other is doubled.
    logs = str(request.folder.logs).replace("%", "%%")
    options = {
        "job-name": name,
        "output": f"{logs}/{log}",
        "open-mode": "append",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": settings.gpus_per_node if settings.has_cards else "",
        "cpus-per-task": settings.cpus_per_task or "",
        "mem": settings.mem,
        "constraint": settings.constraint,
        "signal": f"B:USR1@{settings.stop_seconds}",
    }
    for key, value in options.items():
        if value != "":
            yield f"#SBATCH {shlex.quote(f'--{key}={value}')}"
    yield "#SBATCH --no-kill"
    yield f"#SBATCH --{'requeue' if settings.requeue else 'no-requeue'}"
    for line in settings.lines:
        yield f"#SBATCH {line}"


def begun(request: Request) -> Iterator[str]:
    """Return what comes before the program is called."""
    modules = request.settings.slurm.modules
    yield f"launch={shlex.quote(str(request.folder.path))}"
    if modules:
        yield f"module load {shlex.join(modules)}"
    yield from prepared(request.settings)
    yield "set -u"  # what comes before may be others' code


def program(request: Request, arguments: Sequence[str]) -> str:
    """Return the call of the program, in its container if there is one."""
    call = called(request.settings, arguments)
    settings = request.settings.slurm
    if not settings.container:
        return call
    binds = [*_needed(request), *settings.binds]
    words = [
        *(settings.container_program, "exec"),
        *(["--nv"] if settings.has_cards else ()),
        *(word for bind in binds for word in ("--bind", bind)),
        settings.container,
    ]
    return f"{shlex.join(words)} {call}"


def _needed(request: Request) -> list[str]:
    """Return the folders that the program needs: of the run, of its source and the user's files, of the data."""
    files = [request.source, *map(Path, (*request.own.tasks, *request.own.strategies, *request.own.local))]
    folders = [request.run_dir.parent, *(file.absolute().parent for file in files if file.exists())]
    data = [request.settings.data_dir] if request.settings.data_dir else []
    return list(dict.fromkeys([*map(str, folders), *data]))
