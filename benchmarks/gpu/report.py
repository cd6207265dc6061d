"""GPU.md: what the parts have found so far, always a whole file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from benchmarks.gpu.parts import PARTS, subject_of
from benchmarks.gpu.row import Row
from lotteryfl.common.disk.atomicfile import write_text

_INTRODUCTION = """\
# {title}

`{command}`, {date}: {machine}.

{failed} of {checks} checks do not hold; {met} of {goals} goals are met. "Not run" is said of all that has not been.
"""


def write(path: Path, machine: str, command: str, found: Mapping[str, Sequence[Row] | str], *, is_card: bool) -> None:
    """Write the table.

    Args:
        path: of the file.
        machine: what was checked.
        command: by what.
        found: by part its rows, or why it was not run.
        is_card: it is an accelerator; otherwise nothing in the table says anything of one.
    """
    rows = [row for part in found.values() if not isinstance(part, str) for row in part]
    checks = [row for row in rows if row.holds is not None and not row.goal]
    goals = [row for row in rows if row.holds is not None and row.goal]
    text = _INTRODUCTION.format(
        title="On an accelerator" if is_card else "A dry run on the CPU: of an accelerator it says nothing",
        command=command,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine,
        failed=sum(row.has_failed for row in checks),
        checks=len(checks),
        met=sum(bool(row.holds) for row in goals),
        goals=len(goals),
    )
    for part in PARTS:
        text += f"\n## {part.capitalize()}\n\n{subject_of(part)}\n\n{_part(found.get(part, 'not run'))}\n"
    write_text(path, text, 0o644)


def _part(rows: Sequence[Row] | str) -> str:
    if isinstance(rows, str):
        return f"{rows[:1].upper()}{rows[1:]}."
    cells = [(row.what, row.found, row.goal, {True: "yes", False: "NO", None: ""}[row.holds]) for row in rows]
    return tabulate(cells, ("", "found", "goal", "holds"), tablefmt="github", disable_numparse=True)
