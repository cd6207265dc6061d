"""Blocks of code of the documents, and what becomes of each; `python -m tests.docs.blocks` prints how many.

A block is run by tests/docs as its language has it: python and sh as they stand, one after the other in a folder for
each document; toml, json and yaml by who reads such a file. In the line above it may stand, as a comment that no page
shows:

    <!-- not run: REASON -->      one of REASONS
    <!-- run by tests/… -->       a test that is about this block
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.paths import ROOT

LANGUAGES = ("python", "sh", "toml", "json", "yaml")
"""What tests/docs runs."""

REASONS = (
    "a list of commands of make",
    "a list of commands, each understood by the program",
    "a picture",
    "a session, with what it prints",
    "a sketch that was decided upon; the code is the reference",
    "another library's",
    "needs a package index",
    "needs Docker",
    "needs other machines or a cluster",
    "part of a section",
    "takes minutes or hours",
    "what is in a file",
    "what is printed",
)
"""Why a block is not run."""

RUN_BY = {"docs/tutorial.md": "tests/test_tutorial.py"}
"""Documents of which one test runs everything."""

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<tag>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block of code."""

    document: str
    """From the top of the repository."""
    line: int
    language: str
    text: str
    tag: str
    """What stands above it; '': nothing."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.document}:{self.line}"

    @property
    def reason(self) -> str:
        """Why it is not run; '': it is."""
        found = re.fullmatch(r"not run: (.*)", self.tag)
        return found[1] if found else ""

    @property
    def runner(self) -> str:
        """The test that is about it; '': those of tests/docs."""
        found = re.fullmatch(r"run by (\S+)", self.tag)
        return found[1] if found else RUN_BY.get(self.document, "")

    @property
    def runs_here(self) -> bool:
        """Whether tests/docs has to run it."""
        return not self.reason and not self.runner


def documents() -> list[str]:
    """Return all documents that people read for what they could do, from the top of the repository."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md")]
    return [path.relative_to(ROOT).as_posix() for path in [*found, *sorted((ROOT / "docs").rglob("*.md"))]]


def blocks(document: str) -> Iterator[Block]:
    """Give a document's blocks, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(document, line, found["language"], found["text"], found["tag"] or "")


ALL = [block for document in documents() for block in blocks(document)]


def counted() -> str:
    """Return how many are run, by what, and how many are not, and why: a line for each."""
    ways: Counter[str] = Counter()
    for block in ALL:
        ways[f"not run: {block.reason}" if block.reason else f"run: {block.language}"] += 1
    run = sum(count for way, count in ways.items() if way.startswith("run"))
    lines = [f"{len(ALL)} blocks, {run} run, {len(ALL) - run} not", *(f"{ways[way]:4} {way}" for way in sorted(ways))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(counted() + "\n")
