"""`make site` ends where a link leads nowhere."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytest.importorskip("mkdocs", reason="the extra site")


@pytest.mark.parametrize(("link", "code"), [("two.md#here", 0), ("two.md#nowhere", 1), ("three.md", 1)])
def test_a_link_that_leads_nowhere_ends_it(tmp_path: Path, link: str, code: int) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# One\n\n[there]({link})\n")
    (tmp_path / "docs/two.md").write_text("# Two\n\n## Here\n")
    checks = (
        (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nvalidation:")[2].partition("\nnot_in_nav")[0]
    )
    (tmp_path / "mkdocs.yml").write_text(f"site_name: one\nvalidation:{checks}\nplugins: []\n")

    dry = subprocess.run(
        [shutil.which("make") or "make", "--no-print-directory", "-n", "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    _, _, *arguments = shlex.split(dry.splitlines()[-1])
    built = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )

    assert built.returncode == code, built.stderr
    assert (link in built.stderr) == bool(code)
