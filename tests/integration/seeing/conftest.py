"""Terminals, which end with their test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal

OnTerminal = Callable[..., Terminal]


@pytest.fixture
def on_terminal(tmp_path: Path) -> Iterator[OnTerminal]:
    """Start the program on a terminal: `on_terminal("watch", address, columns=60)`."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(_terminal(tmp_path, *arguments, **options))


def _terminal(cwd: Path, *arguments: object, **options: Any) -> Terminal:
    return Terminal(*arguments, cwd=cwd, **options)
