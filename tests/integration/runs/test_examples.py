"""The examples: they are short, they learn, and they come to the same bits with any number of workers."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lotteryfl
from tests.support.libraries import environment, let_torchvision_be_imported, library
from tests.support.paths import ROOT
from tests.support.runs import Start, assert_same_bits, read_summary


@dataclass(frozen=True)
class Example:
    better: float
    """By how much the score of the downloaded model grows at least."""
    libraries: tuple[str, ...] = ()


EXAMPLES = {
    "segmentation": Example(0.5),
    "diabetes": Example(0.25),
    "resnet": Example(0.3, ("timm",)),
    "reviews": Example(0.25, ("transformers",)),
    "lora": Example(0.25, ("peft", "transformers")),
}


def examples(*fast: str) -> list[Any]:
    """Return the names, marked: all but the fast ones are slow."""
    marks = {
        name: [pytest.mark.slow] * (name not in fast) + [pytest.mark.extras] * bool(example.libraries)
        for name, example in EXAMPLES.items()
    }
    return [pytest.param(name, marks=its) for name, its in marks.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody stands who runs the examples: what they say to do first is done."""
    let_torchvision_be_imported()
    folder = tmp_path_factory.mktemp("somebodys")
    subprocess.run([sys.executable, ROOT / "examples" / "diabetes.py", "runs/clinics"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_they_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < (100 if "LocalAlgorithm" in text else 40)


def test_all_of_them_are_listed() -> None:
    text = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    files = [path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".toml", ".py", ".ipynb")]
    assert len(files) > 10
    assert [name for name in files if f"examples/{name}" not in text] == []
    for name in EXAMPLES:
        assert f"`lotteryfl run examples/{name}.toml`" in text


@pytest.mark.parametrize("name", examples("diabetes"))
def test_they_learn(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in EXAMPLES[name].libraries:
        library(needed)
    monkeypatch.chdir(folder)
    experiment = lotteryfl.load_experiment(ROOT / "examples" / f"{name}.toml")
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu") as view:
        rounds, summary = view.rounds(), view.summary()
    score = summary.get("score", {"name": "accuracy"})["name"]
    first, last = (float(rounds[f"{score}_downloaded"].iloc[row]) for row in (0, -1))
    assert last > first + EXAMPLES[name].better
    assert float(rounds["density"].iloc[-1]) < 0.9, "nothing is pruned"


@pytest.mark.parametrize("name", examples())
def test_they_have_the_same_bits_with_any_number_of_workers(
    name: str, folder: Path, tmp_path: Path, start: Start
) -> None:
    for needed in EXAMPLES[name].libraries:
        library(needed)
    ways = {"simulate": ("simulate",), "one": ("run", "--workers=1"), "three": ("run", "--workers=3")}
    for way, command in ways.items():
        settings = ("--device=cpu", "--run-dir", tmp_path / way, "--set=rounds=2", "--set=clients_per_round=3")
        process = start(*command, ROOT / "examples" / f"{name}.toml", *settings, cwd=folder, env=environment())
        assert process.exit_code() == 0, process.stderr
    for way in ("one", "three"):
        assert_same_bits(tmp_path / way, read_summary(tmp_path / "simulate"))
