"""A tag says the version that is tagged: pyproject.toml and CHANGELOG.md say the same one."""

import re
import subprocess
import tomllib

import pytest

from tests.support.paths import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def tags() -> list[str]:
    """Return the versions' tags on this commit."""
    command = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone, so no tags")
def test_a_tag_on_this_commit_is_its_version() -> None:
    found = tags()
    assert found in ([], [f"v{VERSION}"])
    if found:
        headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        assert VERSION in headings
