"""`make` finds a Python that runs, installs what a target needs, and says how links come into a checkout."""

import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Call `make` in a copy of what it reads, without any Python but those that `python` puts on the PATH."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    path = tmp_path / "path"
    path.mkdir()
    for tool in ("chmod", "make", "mkdir", "sed", "sh", "touch"):
        where = shutil.which(tool)
        assert where is not None, tool
        (path / tool).symlink_to(where)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(path / "make"), "--no-print-directory", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={"PATH": str(path)}, capture_output=True, text=True, check=False
        )

    return call


def python(folder: Path, name: str, version: str | None, *, venv: bool = True) -> None:
    """Put a Python there that says it is of a version, or fails as a shim does; its .venv notes its calls."""
    makes = f"mkdir -p .venv/bin && echo 'echo {name} \"$@\" >>calls' >.venv/bin/python && chmod +x .venv/bin/python"
    works = f"""case "$*" in
  *print*) echo {version} ;;
  *ensurepip*) exit {0 if venv else 1} ;;
  "-m venv .venv") {makes} ;;
esac"""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{works if version else 'exit 127'}\n")
    file.chmod(0o755)


def calls(tmp_path: Path) -> list[str]:
    """Return what was asked of the Python in .venv."""
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3.11": None, "python3.12": "3.12", "python3.13": "3.13"}, "python3.12"),
        ({"python3.13": None, "python3": "3.10", "python": "3.15"}, "python"),
        ({"python3.11": "3.11", "python3": "3.14"}, "python3.11"),
    ],
)
def test_the_first_python_that_runs_and_fits_makes_the_venv(
    make: Make, tmp_path: Path, there: dict[str, str | None], chosen: str
) -> None:
    for name, version in there.items():
        python(tmp_path / "path", name, version)
    done = make("setup")
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path)[0].startswith(f"{chosen} -m pip install")


def test_a_python_that_is_named_is_the_only_one_that_is_tried(make: Make, tmp_path: Path) -> None:
    python(tmp_path / "path", "python3.11", "3.11")
    python(tmp_path, "my python", "3.13")
    assert make("setup", f"PYTHON={tmp_path}/my python").returncode == 0
    assert calls(tmp_path)[0].startswith("my python -m pip install")

    shutil.rmtree(tmp_path / ".venv")
    python(tmp_path / "path", "python3.9", "3.9")
    refused = make("setup", "PYTHON=python3.9")
    assert refused.returncode != 0
    assert "looked for python3.9 (is 3.9). " in refused.stderr


def test_without_a_python_make_says_what_it_looked_for(make: Make, tmp_path: Path) -> None:
    for name, version in {"python3.12": None, "python3": "3.10", "python": "2.7"}.items():
        python(tmp_path / "path", name, version)
    python(tmp_path / "path", "python3.13", "3.13", venv=False)
    refused = make("setup")
    assert refused.returncode != 0
    assert refused.stderr.splitlines()[0] == (
        "no Python from 3.11 on: looked for python3.11 (not there), python3.12 (does not run), "
        "python3.13 (is 3.13 without venv), python3.14 (not there), python3 (is 3.10), python (is 2.7). "
        "Name another: make PYTHON=/path/to/python3"
    )
    assert not (tmp_path / ".venv").exists()


def test_a_venv_that_is_there_stays(make: Make, tmp_path: Path) -> None:
    python(tmp_path / "path", "python3.11", "3.11")
    assert make("setup").returncode == 0
    (tmp_path / "path/python3.11").unlink()
    (tmp_path / ".venv/.ready").unlink()
    assert make("setup").returncode == 0
    assert len(calls(tmp_path)) == 2


def test_what_is_set_up_is_not_set_up_again_and_an_extra_only_adds(make: Make, tmp_path: Path) -> None:
    python(tmp_path / "path", "python3.11", "3.11")
    for target in ("setup", "setup", "setup-report", "setup-tensorboard", "setup-report"):
        assert make(target).returncode == 0, target
    pip = "python3.11 -m pip install --quiet --constraint constraints.txt --editable"
    assert calls(tmp_path) == [f"{pip} .", f"{pip} .[report]", f"{pip} .[tensorboard]"]


@pytest.mark.parametrize("extra", PYPROJECT["project"]["optional-dependencies"])
def test_every_extra_has_a_target(make: Make, extra: str) -> None:
    planned = make("--dry-run", f"setup-{extra}")
    assert f"--editable '.[{extra}]'" in planned.stdout, planned.stderr


def test_the_demo_installs_nothing_but_what_runs_it(make: Make) -> None:
    planned = make("--dry-run", "demo").stdout
    assert planned.count("pip install") == 1
    assert ".[" not in planned


def test_the_demo_that_is_seen_installs_what_shows_it(make: Make) -> None:
    planned = make("--dry-run", "demo", "DASHBOARD=127.0.0.1:8080").stdout
    for extra in ("dashboard", "metrics", "tensorboard"):
        assert f"--editable '.[{extra}]'" in planned
    assert planned.splitlines()[-1] == "tools/demo-seen .venv/bin 127.0.0.1:8080"


@pytest.mark.parametrize("target", ["demo", "test", "test-slow", "coverage"])
def test_heavy_libraries_are_in_an_environment_of_their_own(make: Make, target: str) -> None:
    heavy = make("--dry-run", "test-extras").stdout
    assert ".venv-extras/bin/python -m pip install --quiet --no-deps timm torchvision" in heavy
    assert ".venv-extras/bin/python -m pytest -m extras" in heavy
    assert ".venv/" not in heavy
    planned = make("--dry-run", target).stdout
    assert not any(name in planned for name in (".venv-extras", "timm", "torchvision", "transformers", "peft"))


@pytest.mark.parametrize("target", ["test", "test-slow", "test-extras"])
def test_ray_is_in_an_environment_of_its_own(make: Make, target: str) -> None:
    beside = make("--dry-run", "test-ray").stdout
    assert ".venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'" in beside
    assert ".venv-ray/bin/python -m pytest -m ray" in beside
    assert ".venv-ray" not in make("--dry-run", target).stdout


@pytest.mark.parametrize("target", ["bench", "test", "test-slow", "test-extras"])
def test_the_peer_is_in_an_environment_of_its_own(make: Make, target: str) -> None:
    beside = make("--dry-run", "bench-peer").stdout
    assert ".venv-peer/bin/python -m pip install --quiet 'flwr==1.42.0' || { echo \"flwr==1.42.0: cannot be" in beside
    assert ".venv/bin/python -m benchmarks.peer .venv-peer/bin/python" in beside
    planned = make("--dry-run", target).stdout
    assert not any(name in planned for name in (".venv-peer", "flwr", "benchmarks.peer"))


def test_what_makes_a_release_is_hashed_and_in_an_environment_of_its_own(make: Make, tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements/release.txt", tmp_path / "requirements")
    planned = make("--dry-run", "try-package", "sbom", "requirements", "PYTHON=python3.13", "HASHED=1").stdout
    installed = (
        ".venv-release/bin/python -m pip install --quiet --require-hashes --requirement requirements/release.txt"
    )
    assert planned.count(" pip install ") == planned.count(installed) == 1
    wheel = f"dist/lotteryfl-{PYPROJECT['project']['version']}-py3-none-any.whl"
    assert f'tools/try-package "$python" {wheel} requirements/torch.txt requirements/run.txt' in planned
    assert "tools/package .venv-release/bin" in planned
    assert ".venv/" not in planned
    of = make("--dry-run", "sbom", "OF=venv/bin/python").stdout
    assert "cyclonedx-py environment" in of
    assert "'venv/bin/python'" in of


def test_a_card_is_checked_by_a_python_that_is_there_or_by_venvs(make: Make) -> None:
    planned = make(
        "--dry-run", "gpu-check", "GPU_PYTHON=python3", "DEVICE=cpu", "QUICK=1", "OUT=GPU.md", "ONLY=bits"
    ).stdout
    assert "pip" not in planned
    assert "python3 -m benchmarks.gpu" in planned
    assert " ".join(planned.replace("\\", " ").split()).endswith("--device cpu --quick --out GPU.md bits")
    assert "--editable '.[dev]'" in make("--dry-run", "gpu-check", "PYTHON=python3.11").stdout


def test_a_checkout_without_links_is_told_how_to_get_them(make: Make, tmp_path: Path) -> None:
    """Git writes a link's text into a file where core.symlinks is false, as on Windows."""
    python(tmp_path / "path", "python3.11", "3.11")
    (tmp_path / "lotteryfl").mkdir()
    (tmp_path / "lotteryfl/server").write_text("../server")
    refused = make("setup")
    assert refused.returncode != 0
    assert "git config core.symlinks true" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_sets_up_pythons_that_make_looks_for() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    looked_for = (ROOT / "tools/find-python").read_text()
    assert all(f"python{version} " in looked_for for version in versions)
