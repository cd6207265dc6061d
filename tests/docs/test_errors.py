"""docs/errors.md: every message is one that the code has, word for word but for what depends on the case."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `(.+?)` \|", TEXT, re.MULTILINE)
FOLDERS = ("common", "client", "server", "lotteryfl/commands", "lotteryfl/launching", "lotteryfl/running")
HOLE = "\0"


def written(node: ast.expr) -> str:
    """Return a text of the code, with a hole for each value in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(written(part) if isinstance(part, ast.Constant) else HOLE for part in node.values)


@cache
def texts() -> frozenset[str]:
    return frozenset(_texts())


def _texts() -> Iterator[str]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                    yield written(node)


def is_said(message: str, text: str) -> bool:
    """Tell whether a message is a text with its holes filled: … stands for holes, and for what stands around them."""
    parts = [re.escape(part) for part in message.split("…")]
    return re.fullmatch(f"({HOLE}.*?|.*?{HOLE})?".join(parts), text, re.DOTALL) is not None


def test_there_are_as_many_as_promised() -> None:
    assert len(MESSAGES) == len(set(MESSAGES)) >= 20


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_the_codes(message: str) -> None:
    assert any(is_said(message, text) for text in texts())


def test_a_message_that_nobody_says_is_found() -> None:
    assert not any(is_said("clients_per_round = …: must be less than clients = …", text) for text in texts())
