"""A worker that keeps its clients' data asks for it once, and gives the same bits."""

from pathlib import Path
from typing import Any

import pytest

from lotteryfl.server.results.summary import summarise
from tests.support.runs import Coordinate, Expect, Start, Write

TASK = """
from pathlib import Path
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

def client(k, experiment):
    with Path(__file__).with_name("asked").open("a") as file:
        file.write(f"{k}\\n")
    inputs = torch.randn(30, 6)
    return [(part, part[:, :3].argmax(dim=1)) for part in inputs.split(10)]
"""

SMALL: dict[str, Any] = {"rounds": 2, "clients": 2, "clients_per_round": 2, "training": {"epochs": 1}}


@pytest.mark.slow
def test_a_worker_that_keeps_data_asks_for_it_once(
    tmp_path: Path, start: Start, write: Write, expect: Expect, coordinate: Coordinate
) -> None:
    source = tmp_path / "asking.py"
    source.write_text(TASK)
    path = write(SMALL, task={"name": str(source)})
    server = coordinate(path)
    worker = start("work", "--coordinator", server.address, "--task", source, "--keep-data", 1)
    assert worker.exit_code() == 0, worker.stderr
    assert sorted((tmp_path / "asked").read_text().split()) == ["0", "1"]
    assert not server.ended()
    assert summarise(server.run)["model_sha256"] == expect(path)["model_sha256"]
