"""The packaged chart library is what its authors have published, with its licence."""

import hashlib

import pytest

from tests.support.paths import ROOT

FOLDER = ROOT / "lotteryfl" / "dashboard" / "static" / "uplot"
SUMS = [line.split() for line in (FOLDER / "SHA256SUMS").read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(("digest", "name"), SUMS)
def test_a_file_of_it_is_unmodified(digest: str, name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


def test_every_file_of_it_is_named_with_its_version() -> None:
    assert {name for _, name in SUMS} == {path.name for path in FOLDER.iterdir()} - {"SHA256SUMS"}
    assert any(name == "LICENSE" for _, name in SUMS)
    version = (FOLDER / "SHA256SUMS").read_text().split()[2]
    assert version in (FOLDER / "uPlot.iife.min.js").read_text()
