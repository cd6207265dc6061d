"""What a part has found: checks, which hold or do not, and figures, some with a goal."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    found: str
    """The figure, with what it stands beside."""
    holds: bool | None = None
    """Of a check whether it holds, of a figure whether its goal is met; None: it has none."""
    goal: str = ""
    """Of a figure; a row without one whose `holds` is said is a check."""

    @property
    def has_failed(self) -> bool:
        """Whether it is a check, and does not hold."""
        return self.holds is False and not self.goal

    def to_line(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))


def from_line(line: str) -> Row | None:
    """Return the row of a line; None: it is none."""
    try:
        return Row(**json.loads(line))
    except (ValueError, TypeError):
        return None


def check(what: str, holds: bool, found: str = "") -> Row:
    """Return the row of something that has to hold."""
    return Row(what, found or ("yes" if holds else "no"), holds)


def same(what: str, first: object, second: object) -> Row:
    """Return the row of two things that have to be the same."""
    shown = f"{str(first)[:12]}" if first == second else f"{str(first)[:12]} and {str(second)[:12]}"
    return check(what, first == second, shown)
