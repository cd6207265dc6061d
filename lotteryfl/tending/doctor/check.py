"""One thing that was looked at, and what to do where it is not well."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import brief, printable

Verdict = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """What was found."""

    verdict: Verdict
    subject: str
    found: str
    advice: str = ""
    """What to do; '': nothing."""

    def __str__(self) -> str:
        """Say it in one line."""
        advice = f": {self.advice}" if self.advice else ""
        return printable(brief(f"{self.verdict:<4} {self.subject}: {self.found}{advice}"))


def looked(subject: str, look: Callable[[], Iterable[Check]], advice: str = "") -> Iterator[Check]:
    """Yield what a look finds; what it raises, whatever that is, is found too.

    Args:
        subject: what is looked at.
        look: yields checks, and may end in any way.
        advice: what to do where it raises.
    """
    try:
        yield from look()
    except LotteryFLError as error:
        yield Check("fail", subject, str(error), advice)
    except OSError as error:
        yield Check("fail", subject, f"{error.filename}: {error.strerror}" if error.filename else str(error), advice)
    except (Exception, SystemExit) as error:  # also what code of the user's own does
        yield Check("fail", subject, f"{type(error).__name__}: {error}", advice)


def close_command(path: Path) -> str:
    """Return the command after which a file is its owner's alone."""
    return shlex.join(["chmod", "-R", "go=", str(path)])
