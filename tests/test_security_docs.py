"""SECURITY.md: every test that it names is there, and no threat goes without one unless it says why."""

import re

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|*]+) \| ([^|]+) \| ?([^|]*) \|$", TEXT.partition("| threat |")[2], re.MULTILINE)


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT))))
def test_a_test_that_is_named_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {function}" in source


def test_every_threat_has_a_test() -> None:
    threats = [(threat, test) for threat, _, test in ROWS if not threat.startswith("-")]
    assert len(threats) > 30
    untested = [threat for threat, test in threats if "`tests/" not in test]
    assert untested == ["a dependency with a known hole"], "what it is checked against changes by the day: make audit"
