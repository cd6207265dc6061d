"""The wheel: `lotteryfl` and its metadata alone, whole, and usable beside files of the same names as its folders.

And the sdist: what a wheel is made of, and no tests.
"""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
FOLDERS = ("lotteryfl", "client", "server", "common", "protos")
HELD = (
    "lotteryfl/__init__.py",
    "lotteryfl/py.typed",
    "lotteryfl/server/rounds/coordinator.py",
    "lotteryfl/client/work/planrun.py",
    "lotteryfl/common/experiment/template.toml",
    "lotteryfl/protocols/ssfl-cifar10.toml",
    "lotteryfl/board/static/board.css",
    "lotteryfl/board/static/board.js",
    "lotteryfl/dashboard/static/index.html",
    "lotteryfl/dashboard/static/uplot/LICENSE",
    "lotteryfl/protos/lotteryfl.proto",
    "lotteryfl/protos/lotteryfl_pb2.pyi",
)


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build of, since a build leaves folders behind."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    shutil.copytree(ROOT / "tests/program", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the setuptools that is here: without a network."""
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", target, source)
    (found,) = target.glob("*.whl")
    return found


def test_it_has_lotteryfl_and_its_metadata_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert all(archive.getinfo(name).file_size for name in HELD if not name.endswith("py.typed"))
    top = {name.partition("/")[0] for name in names}
    assert top == {"lotteryfl", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert set(HELD) <= set(names)


def test_it_has_every_module(wheel: Path) -> None:
    rooms = (room for room in (ROOT / "lotteryfl").iterdir() if not room.is_symlink())
    modules = {
        str(path.relative_to(ROOT)) for room in rooms for path in (room, *room.rglob("*")) if path.suffix == ".py"
    }
    modules |= {f"lotteryfl/{path.relative_to(ROOT)}" for name in FOLDERS[1:] for path in (ROOT / name).rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".py")} == modules


def test_it_has_every_file_of_the_page(wheel: Path) -> None:
    static = ROOT / "lotteryfl/dashboard/static"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("lotteryfl/dashboard/static/")}
    assert packed == {str(path.relative_to(ROOT)) for path in static.rglob("*") if path.is_file()}


def test_the_sdist_is_what_a_wheel_is_made_of(source: Path, wheel: Path, tmp_path: Path) -> None:
    code = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=source, capture_output=True, text=True, check=True
    )
    path = tmp_path / built.stdout.split()[-1]
    folder = path.name.removesuffix(".tar.gz")
    with tarfile.open(path) as archive:
        files = {member.name.removeprefix(f"{folder}/") for member in archive if member.isfile()}
    with zipfile.ZipFile(wheel) as packed:
        modules = {name for name in packed.namelist() if name.startswith("lotteryfl/")}
    own = {name for name in files - modules if not name.startswith("lotteryfl.egg-info/")}
    assert modules <= files
    assert own == {*SOURCES, "PKG-INFO", "setup.cfg"}


def test_installed_it_is_imported_beside_others_files_of_those_names(wheel: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "folder"
    folder.mkdir()
    for name in ("client", "server", "common"):
        (folder / f"{name}.py").write_text("OWNER = 'the user'\n")
    pip("install", "--no-index", "--no-deps", "--target", site, wheel)
    code = (
        "import client, server, common, lotteryfl\n"
        "import lotteryfl.server.rounds.coordinator as coordinator\n"
        "assert lotteryfl.density and lotteryfl.simulate\n"
        "assert client.OWNER == server.OWNER == common.OWNER\n"
        "print(lotteryfl.__file__, coordinator.__file__)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert all(Path(path).is_relative_to(site) for path in process.stdout.split())
