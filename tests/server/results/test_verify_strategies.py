"""`lotteryfl verify` knows the strategies: masks of all clients, own weights, the server's optimizer."""

# ruff: noqa: S608 - every query is our own

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file
from tests.support.bench import Bench, simulated, tiny_experiment
from tests.support.damage import TICKET, edit, flip, problems, rewritten

Drive = Callable[..., Bench]
OfStrategy = Callable[..., Path]


@pytest.fixture
def of_strategy(tmp_path: Path) -> Callable[..., Path]:
    """Finished runs to damage: `of_strategy("feddst", server={…})`."""

    def finished(name: str, **changes: Any) -> Path:
        experiment = tiny_experiment(strategy={"name": name, "personal_rate": 0.1}, **changes)
        with simulated(tmp_path / name, experiment) as run:
            write_summary(run)
        assert problems(run.path) == []
        return run.path

    return finished


def in_its_second_round(drive: Drive, name: str, **strategy: Any) -> Path:
    """The directory of a run that was killed when its second round was open and had a result."""
    bench = drive(tiny_experiment(strategy={"name": name, **strategy}))
    bench.do_all(worker := bench.register())
    bench.commit()
    bench.submit(worker, bench.do(bench.take(worker)))
    bench.close()
    assert problems(bench.path) == []
    return bench.path


@pytest.mark.parametrize(
    ("name", "starts_under"),
    [("ssfl", "as all clients have"), ("cell", "as all clients have"), ("lotteryfl", "client's")],
)
def test_what_an_open_rounds_work_starts_under_is_by_the_strategy(drive: Drive, name: str, starts_under: str) -> None:
    path = in_its_second_round(drive, name)
    edit(path, f"UPDATE assignments SET mask = '{'0' * 64}' WHERE round = 2 AND state = 'waiting'")
    found = problems(path)
    assert found
    assert all(starts_under in problem for problem in found if "clients" not in problem.split(":")[1])
    assert all(
        re.match(r"run.db: assignments: round 2(, client \d: mask '0{12}', expected|: 2 masks)", p) for p in found
    )


def test_all_clients_start_under_one_mask(of_strategy: OfStrategy) -> None:
    path = of_strategy("feddst")
    edit(path, f"UPDATE assignments SET mask = '{'0' * 64}' WHERE round = 1 AND client = 0")
    edit(path, "UPDATE results SET density = 0.6 WHERE round = 2 AND client = 1")
    assert problems(path)[0].startswith("run.db: assignments: round 1: 2 masks, ")
    assert "run.db: results: round 2, client 1: density 0.6, expected 0 to 0.5 as it started from" in problems(path)


def test_who_starts_from_the_whole_model_has_no_mask(of_strategy: OfStrategy) -> None:
    path = of_strategy("cell")
    edit(path, f"UPDATE assignments SET mask = '{'0' * 64}' WHERE round = 2")
    assert problems(path) == [
        "run.db: assignments: round 2: 1 masks, as '000000000000', expected no mask for all clients"
    ]


def test_the_mask_of_all_is_looked_at(of_strategy: OfStrategy) -> None:
    path = of_strategy("ssfl")
    with RunDirectory(path) as run:
        file = run.mask_path(run.shared_mask.digest)
    flip(file)
    assert f"masks/{file.name}: SHA-256" in problems(path)[0]
    file.unlink()
    assert problems(path)[0] == f"masks/{file.name}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        ("0.25", r"masks/[0-9a-f]{64}.safetensors: density 0.5, expected 0.25 as all start from"),
        ("half", "run.db: run, key 'shared_density': 'half', expected a number from 0 to 1"),
    ],
)
def test_the_density_of_the_mask_of_all_is_looked_at(of_strategy: OfStrategy, density: str, expected: str) -> None:
    path = of_strategy("ssfl")
    edit(path, f"UPDATE run SET value = '{density}' WHERE key = 'shared_density'")
    (problem,) = problems(path)
    assert re.fullmatch(expected, problem)


def test_a_measurement_makes_neither_model_nor_tickets(drive: Drive) -> None:
    path = in_its_second_round(drive, "ssfl")
    shutil.copy(path / model_file(0), path / model_file(1))
    edit(path, "INSERT INTO run VALUES ('model_round', '1')")
    edit(path, f"UPDATE assignments SET source = '{model_file(1)}' WHERE round = 2")
    assert problems(path) == ["run.db: run, key 'model_round': 1, expected 0 after 1 committed rounds"]
    edit(path, "DELETE FROM run WHERE key = 'model_round'")
    edit(path, f"UPDATE assignments SET source = '{model_file(0)}' WHERE round = 2")
    edit(path, "UPDATE clients SET ticket = file FROM results r WHERE r.client = clients.client AND r.round = 1")
    assert re.fullmatch(
        r"run.db: clients: client \d: file 'results/r1-.*, expected '' as its last .*", problems(path)[0]
    )


def test_own_weights_are_looked_at(of_strategy: OfStrategy) -> None:
    path = of_strategy("fedselect")
    with rewritten(path / TICKET) as tensors:
        tensors["own/0.weight"][0] = torch.nan
    assert problems(path) == [f"{TICKET}: own/0.weight: value nan at flat index 0, expected finite"]
    with rewritten(path / TICKET) as tensors:
        del tensors["own/0.weight"]
    assert problems(path) == [f"{TICKET}: own/0.weight: missing"]


def test_what_is_a_clients_own_comes_from_its_ticket(drive: Drive) -> None:
    path = in_its_second_round(drive, "fedselect", personal_rate=0.1)
    edit(path, "UPDATE assignments SET own = 'results/r1-c0-a9.safetensors' WHERE round = 2 AND own != ''")
    assert all(re.search("own file 'results/r1-c0-a9.*', expected 'results/r1-c", p) for p in problems(path))
    assert problems(path)


def test_the_state_of_the_servers_optimizer_is_looked_at(of_strategy: OfStrategy) -> None:
    path = of_strategy("fedavg", server={"optimizer": "adam"})
    state = path / "models/optimizer-0002.safetensors"
    with rewritten(state) as tensors:
        tensors["0.bias/exp_avg"][2] = torch.inf
    assert problems(path) == ["models/optimizer-0002.safetensors: 0.bias/exp_avg: has values that are not finite"]
    with rewritten(state) as tensors:
        tensors["0.bias/exp_avg"] = torch.zeros(12)
        tensors["0.bias/step"] += 1
    assert problems(path) == ["models/optimizer-0002.safetensors: 0.bias/step: 3.0, expected 2 steps"]
    state.unlink()
    assert problems(path) == ["models/optimizer-0002.safetensors: cannot be read: No such file or directory"]


def test_a_jump_start_is_no_step_of_the_servers_optimizer(tmp_path: Path) -> None:
    experiment = tiny_experiment(
        rounds=3, strategy={"name": "fedltn", "jump_start_epochs": 1}, server={"optimizer": "adam"}
    )
    with simulated(tmp_path / "run", experiment) as run:
        pass
    assert problems(run.path) == []
    assert set(open_file(run.path / "models/optimizer-0003.safetensors")["0.bias/step"].reshape(-1).tolist()) == {2}
