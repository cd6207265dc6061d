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


def released() -> list[str]:
    """Return the versions that CHANGELOG.md has parts for, newest first; what is to come is above them."""
    first, *others = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first == "Unreleased"
    dated = [re.fullmatch(r"(\d+\.\d+\.\d+) – \d{4}-\d\d-\d\d", heading) for heading in others]
    assert all(dated), others
    return [match[1] for match in dated if match]


def test_the_changelog_ends_with_the_version_that_is_here() -> None:
    """Before the first release it has no part for any; afterwards a version is raised and written down at once."""
    assert released()[:1] in ([], [VERSION])


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone, so no tags")
def test_a_tag_on_this_commit_is_its_version() -> None:
    found = tags()
    assert found in ([], [f"v{VERSION}"])
    if found:
        assert VERSION in released()
