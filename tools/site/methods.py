"""A page for each built-in strategy: what its file says, what docs/methods.md says, and what runs have come to."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache

from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import Strategy
from tools.site.curves import curves
from tools.site.markdown import literal, table
from tools.site.repository import ROOT, with_links

FOLDER = "methods"
"""Of the pages, below the site's docs."""
_RESULTS = ("docs/experiments.md", "docs/own-method.md")
"""Documents with tables of what runs have come to."""

_SHOWN = ("seeds", "personalised", "less fedavg's", "worst 10 %", "downloaded", "shared", "density", "MB in all")
"""Columns of a page's results."""
_ABOUT_RESULTS = (
    "Its rows of [experiments](../experiments.md) and [our own method](../own-method.md), which say what the columns "
    "are; each leads to its table, with all other rows.\n"
)

_MASKS = {
    "own mask": "a client's own: its work begins under its last one",
    "shared mask": "one for all",
    "sent mask": "one for all, of what is sent: each of them trains the whole model",
    "no mask": "a client's own, and its work begins with the whole shared model",
}
_RULES = {
    "shrinks": "only loses bits",
    "exchanges": "loses some and gains as many",
    "free": "may become any other",
}


def pages() -> dict[str, str]:
    """Return the pages by their place on the site."""
    return {f"{FOLDER}/{name}.md": _page(name, strategy) for name, strategy in STRATEGIES.items()}


def with_links_to_pages(text: str) -> str:
    """Return docs/methods.md with each strategy's name leading to its page."""
    return re.sub(
        r"^\| `([\w-]+)` \|",
        lambda found: f"| [`{found[1]}`]({FOLDER}/{found[1]}.md) |" if found[1] in STRATEGIES else found[0],
        text,
        flags=re.MULTILINE,
    )


def _page(name: str, strategy: type[Strategy]) -> str:
    head, row = _listed(name)
    described = {
        "name": f'`strategy.name = "{name}"`',
        **dict(zip(head[1:], row[1:], strict=True)),
        "mask rule": _mask(strategy),
    }
    if strategy.local:
        described["code on the client"] = f"the local algorithm `{strategy.local}`, which comes with the program"
    module = ast.get_docstring(ast.parse(inspect.getsource(sys.modules[strategy.__module__]))) or ""
    file = inspect.getsourcefile(strategy) or ""
    path = f"server/strategies/{file.rpartition('/')[2]}"
    parts = [
        f"# {name}\n\n{_prose(module)}\n",
        _prose(strategy.__doc__ or ""),
        "\n## At a glance\n",
        table(("", ""), ((key, value) for key, value in described.items() if value)),
        f"\nIts code: [{path}](../../{path}). All strategies side by side: [methods](../methods.md).\n",
    ]
    if notes := [each for each in _notes() if f"`{name}`" in each.partition("\n")[0][:80]]:
        parts += ["## Notes\n", "\n".join(notes) + "\n"]
    if results := list(_results(name)):
        parts += [
            "\n## What runs have come to\n",
            _ABOUT_RESULTS,
            table(("in", *_SHOWN), results),
        ]
    if pictures := list(curves(name)):
        parts += ["\n## Curves\n", *pictures]
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Return a docstring as Markdown; what is in its formulas stays text."""
    return literal(inspect.cleandoc(text))


def _mask(strategy: type[Strategy]) -> str:
    if not strategy.prunes:
        return "no weights are taken out of the model"
    return f"{_MASKS[strategy.starts_under]}; it {_RULES[strategy.mask_rule]} in a client's work"


@cache
def _methods() -> str:
    return _text("docs/methods.md")


def _text(document: str) -> str:
    """Return a document with its links as a page of this folder has them."""
    return with_links(document, (ROOT / document).read_text(encoding="utf-8"), f"{FOLDER}/NAME.md")


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip().strip("|").split("|")]


def _listed(name: str) -> tuple[list[str], list[str]]:
    """Return the head of docs/methods.md's table, and a strategy's row; an own one that has none yet: its name."""
    lines = [line for line in _methods().splitlines() if line.startswith("|")]
    found = [line for line in lines if line.startswith(f"| `{name}` |")]
    head = _cells(lines[0])
    return head, _cells(found[0]) if found else [name, *[""] * (len(head) - 1)]


@cache
def _notes() -> list[str]:
    """Return the list below the table, an entry each."""
    return re.findall(r"^- .*(?:\n  .*)*", _methods(), re.MULTILINE)


def _results(name: str) -> Iterator[list[str]]:
    """Give a strategy's rows of all tables of results: where each is, and what it has of `_SHOWN`."""
    for document in _RESULTS:
        titles, head = dict[int, str](), list[str]()
        for line in _text(document).splitlines():
            if found := re.match(r"(#+) (.*)", line):
                level = len(found[1])
                titles = {each: title for each, title in titles.items() if each < level} | {level: found[2]}
            if not line.startswith("|"):
                head = []
            elif not head:
                head = _cells(line)
            elif (row := _cells(line))[0].strip("`") == name and "personalised" in head[1:] and len(row) == len(head):
                values = dict(zip(reversed(head), reversed(row), strict=True))
                yield [_where(document, titles), *(values.get(column, "–") for column in _SHOWN)]


def _where(document: str, titles: dict[int, str]) -> str:
    """Return a link to a table's section, with the title of the one around it, which may name the data."""
    *around, title = titles.values()
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    link = f"[{title}](../{document.removeprefix('docs/')}#{anchor})"
    return f"{around[-1]}: {link}" if len(around) > 1 else link
