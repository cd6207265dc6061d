"""requirements/ is what pyproject.toml and constraints.txt ask for: pinned, hashed, and of no index in particular."""

import re
import tomllib
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
OF_IMAGES = ("dashboard", "metrics", "traces")

PLACES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "platform_machine": machine,
        "os_name": "nt" if system == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for python in ("3.11", "3.12", "3.13")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))
]
"""Where it is promised that lotteryfl can be installed."""


class Entry(NamedTuple):
    """A package in a file, with the hashes of its release's files."""

    requirement: Requirement
    hashes: list[str]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The one version that will do."""
        (only,) = self.requirement.specifier
        assert only.operator in ("==", "==="), self.requirement
        return only.version


def entries(name: str) -> list[Entry]:
    """Return what a file has; of each line it is known what it means."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")
    lines = [line.split(" --hash=sha256:") for line in text.splitlines() if not line.startswith("#")]
    return [Entry(Requirement(first), [each.strip() for each in hashes]) for first, *hashes in lines]


FILES = {name: entries(name) for name in ("torch", "run", "dev", "release")}
LOTTERYFL = [entry for name in ("torch", "run", "dev") for entry in FILES[name]]


def satisfying(entries_: list[Entry], wanted: str, place: dict[str, str]) -> list[Entry]:
    """Return the entries that a place installs for a requirement, if it wants it there."""
    requirement = Requirement(wanted)
    if requirement.marker and not requirement.marker.evaluate(place):
        return []
    named = [each for each in entries_ if each.name == canonicalize_name(requirement.name)]
    there = [each for each in named if not each.requirement.marker or each.requirement.marker.evaluate(place)]
    assert len(there) == 1, f"{wanted} at {place}: {there}"
    assert requirement.specifier.contains(there[0].version, prereleases=True), f"{wanted}: {there[0].requirement}"
    return there


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join((place["python_version"], place["sys_platform"])))
def test_every_place_gets_what_is_asked_for(place: dict[str, str]) -> None:
    running = [*PYPROJECT["project"]["dependencies"], *(each for extra in OF_IMAGES for each in EXTRAS[extra])]
    for wanted in (*running, *PYPROJECT["build-system"]["requires"]):
        satisfying(FILES["torch"] + FILES["run"], wanted, place)
    for wanted in EXTRAS["dev"]:
        satisfying(LOTTERYFL, wanted, place)
    for wanted in PYPROJECT["dependency-groups"]["release"]:
        satisfying(FILES["release"], wanted, place)


def test_what_constraints_pin_has_that_version() -> None:
    """What an extra alone asks for that is neither in an image nor developed with is pinned, and not here."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    found = {entry.name: entry.version for entry in LOTTERYFL if entry.name in pinned}
    assert found == {name: version for name, version in pinned.items() if name in found}
    others = {canonicalize_name(Requirement(each).name) for wanted in EXTRAS.values() for each in wanted}
    assert set(pinned) - set(found) <= others


@pytest.mark.parametrize("name", FILES)
def test_every_package_has_the_hashes_of_its_files_and_no_address(name: str) -> None:
    assert FILES[name]
    for entry in FILES[name]:
        assert entry.hashes, entry.requirement
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in entry.hashes), entry.requirement
        assert entry.requirement.url is None
    assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text()


def test_files_are_installed_together_and_none_says_what_another_has_said() -> None:
    names = [{entry.name for entry in FILES[name]} for name in ("torch", "run", "dev")]
    assert sum(map(len, names)) == len(set().union(*names))
    assert not [entry.name for entry in FILES["run"] if entry.name.startswith(("nvidia-", "cuda-", "triton"))]


def test_torch_is_the_build_whose_hashes_are_there() -> None:
    """By == pip would take 2.13.0+cpu of another index before 2.13.0, and refuse it."""
    (torch,) = (entry for entry in FILES["torch"] if entry.name == "torch")
    assert str(torch.requirement.specifier).startswith("===")
    assert "+" not in torch.version
