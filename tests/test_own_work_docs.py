"""docs/own-work.md: the script and what it becomes, side by side, both do what the page says."""

import re
import runpy
from pathlib import Path

import pytest

import lotteryfl
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "own-work.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+\n# ((?:plain|study)\.\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def test_a_plain_script_and_its_federated_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    runpy.run_path(str(tmp_path / "plain.py"), run_name="__main__")
    (alone,) = re.findall(r"^mae (0\.\d\d)$", capsys.readouterr().out, re.MULTILINE)
    experiment = lotteryfl.load_experiment(tmp_path / "study.toml", ["rounds=10"])
    tasks = [str(tmp_path / "study.py")]
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu", tasks=tasks) as view:
        summary = view.summary()
    assert summary["score"]["name"] == "mae"
    together = summary["score"]["personalised_last"]
    assert max(float(alone), together) < 0.7, "worse than a linear model"
