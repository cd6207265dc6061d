"""The runs of a comparison as processes of their own, several at once."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.telemetry.logs import OWN_WORD, last_line
from lotteryfl.comparing.cells import Cell
from lotteryfl.exitcodes import LEFT_OUT

_STOP_SECONDS = 15.0


async def run_cells(
    cells: Sequence[Cell],
    jobs: int,
    verb: Sequence[str],
    note: Callable[[str], None],
    finished: Callable[[Cell], None] = lambda _: None,
) -> dict[Cell, str]:
    """Run cells until all have ended; one that fails does not stop the others.

    Interrupted, all processes are stopped as by Ctrl-C, and what their runs have counted is kept.

    Args:
        cells: that are not finished.
        jobs: how many at once.
        verb: the command and its options, as ("run", "--workers=2").
        note: is told of every start and end.
        finished: is called with each cell that has not failed, as soon as it has ended.

    Returns:
        Of the cells that failed, why: the last line of their logs.
    """
    slots = asyncio.Semaphore(jobs)
    failed: dict[Cell, str] = {}

    async def run(number: int, cell: Cell) -> None:
        async with slots:
            note(f"{number}/{len(cells)} {cell.path.name}: begins")
            log = cell.path.with_name(f"{cell.path.name}.log")
            async with _process(cell, verb, log) as process:
                code = await process.wait()
        if code == LEFT_OUT:
            note(f"{number}/{len(cells)} {cell.path.name}: warning: clients were left out of rounds, see {log}")
        elif code:
            failed[cell] = last_line(log).removeprefix(OWN_WORD) or f"ended with {code}"
        note(f"{number}/{len(cells)} {cell.path.name}: {failed.get(cell, 'finished')}")
        if cell not in failed:
            finished(cell)

    async with asyncio.TaskGroup() as group:
        for number, cell in enumerate(cells, start=1):
            group.create_task(run(number, cell))
    return failed


@contextlib.asynccontextmanager
async def _process(cell: Cell, verb: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = (f"--set={override}" for override in cell.overrides)
    with open(log, "wb", opener=private) as output:
        process = await asyncio.create_subprocess_exec(
            # -P: a folder named lotteryfl where the user stands is not ours.
            *(sys.executable, "-P", "-m", "lotteryfl"),
            *(verb[0], str(cell.source), f"--run-dir={cell.path}", *verb[1:], *settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            if process.returncode is None:
                process.kill()
