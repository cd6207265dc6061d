"""Markdown that is written by code, and places in what is written by hand."""

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape

_FENCED = re.compile(r"^(?P<indent> *)(?P<fence>```+).*?^(?P=indent)(?P=fence) *$", re.MULTILINE | re.DOTALL)
_BARRED = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")


def cell(text: object) -> str:
    """Return a text as a table's cell has it: one line, without a bar that would end it."""
    return " ".join(str(text).split()).replace("|", r"\|")


def code(text: object) -> str:
    """Return a text as code, for a cell or a line; '' stays nothing."""
    shown = cell(text)
    return f"`{shown}`" if shown else ""


def literal(text: str) -> str:
    """Return a text that shows as it is, though in Markdown it would be more; code in backquotes stays code."""
    return re.sub(r"[*<\[]", lambda found: {"*": r"\*", "<": "&lt;", "[": r"\["}[found[0]], text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a line for each row; no rows: ''."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *lines]) + "\n" if lines else ""


def outside_code(change: Callable[[str], str], text: str) -> str:
    """Return a page of which only what is in no fenced block was changed."""
    parts, place = [], 0
    for block in _FENCED.finditer(text):
        parts += [change(text[place : block.start()]), block[0]]
        place = block.end()
    return "".join([*parts, change(text[place:])])


def with_bars(text: str) -> str:
    """Return Markdown whose code in tables has bars: of `\\|` hosts of code show the bar, mkdocs the backslash too."""
    return outside_code(lambda part: _BARRED.sub(_with_bars, part), text)


def _with_bars(found: re.Match[str]) -> str:
    shown = "&#124;".join(escape(each, quote=False) for each in found[1].split(r"\|"))
    return f"<code>{shown}</code>"


def unlisted(title: str, body: str) -> str:
    """Return a page that the search passes over, as it is not the site's own text."""
    return f"---\nsearch:\n  exclude: true\n---\n\n# {title}\n\n{body}"
