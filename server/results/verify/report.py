"""What a verification looked at, and what it found."""

import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.store.record import UNREADABLE

MOST_KEPT = 20
"""Problems of one subject that are named; of a wiped table there would be a million."""


class Problem(NamedTuple):
    """Something that is not as it should be."""

    where: str
    """The file, relative to the run directory, or the row."""
    what: str
    """The value found and what was expected."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Group:
    """One subject: what was looked at, and the problems with it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.looked_at = ""
        self.problems: list[Problem] = []
        self.unnamed = 0
        """Problems beyond `MOST_KEPT`."""
        self._path = path

    @property
    def is_sound(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def add(self, where: str, what: str) -> None:
        """Note a problem."""
        if len(self.problems) < MOST_KEPT:
            self.problems.append(Problem(where, what))
        else:
            self.unnamed += 1

    @contextmanager
    def naming(self, where: str) -> Iterator[None]:
        """Note what the block raises over what is stored as a problem of this file or table."""
        try:
            yield
        except OSError as error:
            self.add(where, f"cannot be read: {error.strerror or error}")
        except (LotteryFLError, *UNREADABLE) as error:
            self.add(where, str(error).removeprefix(f"{self._path / where}: "))


@dataclass
class Report:
    """A whole verification."""

    path: Path
    is_being_run: bool
    """Somebody was working on the run; what was committed when the verification began is what it looked at."""
    groups: list[Group] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    """Files that nothing refers to: harmless."""
    is_open: bool = False
    """Others of this machine can read some of its files: whoever does knows what the coordinator knows."""
    skipped: list[str] = field(default_factory=list)
    """Groups that were not looked at, because what they build on is not sound."""

    @contextmanager
    def group(self, name: str) -> Iterator[Group]:
        """Add a group; what its block raises over what is stored is a problem of run.db."""
        group = Group(name, self.path)
        self.groups.append(group)
        with group.naming("run.db"):
            yield group

    @property
    def problems(self) -> int:
        """How many there are."""
        return sum(len(group.problems) + group.unnamed for group in self.groups)

    def lines(self) -> Iterator[str]:
        """Yield the report as people read it."""
        if self.is_being_run:
            yield "the run is being worked on: looking at what is committed"
        for group in self.groups:
            yield f"{'ok ' if group.is_sound else 'BAD'} {group.name}: {group.looked_at or 'not looked at further'}"
        if self.skipped:
            yield f"--  {', '.join(self.skipped)}: not looked at; the above must be sound"
        for group in self.groups:
            yield from (f"problem: {problem}" for problem in group.problems)
            if group.unnamed:
                yield f"problem: {group.name}: {group.unnamed} more"
        state = "not in use, perhaps not yet" if self.is_being_run else "left over, harmless"
        yield from (f"{state}: {name}" for name in self.leftovers)
        if self.is_open:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            command = shlex.join(["chmod", "-R", "go=", str(self.path)])
            yield f"open to others of this machine (mode {mode:04o}, expected 0700), who learn what it knows: {command}"
