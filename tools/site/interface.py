"""The reference of what `import lotteryfl` has; mkdocstrings writes it out of the docstrings."""

import inspect
from collections.abc import Iterator

import lotteryfl

_INTRODUCTION = """# Python reference

All that is public, by its docstrings; [the Python interface](../api.md) says what it is for, with examples.
"""


def page() -> str:
    """Return the page, with a line for mkdocstrings for each name."""
    return "\n".join([_INTRODUCTION, *_entries()])


def _entries() -> Iterator[str]:
    for name in lotteryfl.__all__:
        thing = getattr(lotteryfl, name)
        home = thing.__name__ if inspect.ismodule(thing) else f"{thing.__module__}.{thing.__qualname__}"
        yield f"\n::: {home}\n"
