"""On how many test examples training rounds and the last round measure, and which."""

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from lotteryfl.client.work.testdata import TestData
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tasks.sampling import draw_examples, draw_indices
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.summary import summarise
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment

Drive = Callable[..., Bench]


class GlobalTask(TinyTask):
    """11 global test examples that any model that always says class 0 gets right."""

    def global_test(self, examples: int) -> TensorDataset:
        return TensorDataset(torch.zeros(examples, 6), torch.zeros(examples, dtype=torch.long))


def sizes(path: Path, experiment: Experiment) -> dict[tuple[int, str], set[int]]:
    with simulated(path, experiment, GlobalTask()) as run:
        rows = run.database.select("SELECT round, phase, examples FROM metrics")
        found: dict[tuple[int, str], set[int]] = {}
        for round_, phase, examples in rows:
            found.setdefault((round_, phase), set()).add(examples)
    return found


def test_training_rounds_measure_on_a_part_and_the_last_round_on_all_and_globally(tmp_path: Path) -> None:
    found = sizes(tmp_path / "run", tiny_experiment(evaluation={"test_examples": 4, "global_examples": 11}))
    assert {key: value for key, value in found.items() if key[1] != "validation"} == {
        (1, "downloaded"): {4},
        (1, "personalised"): {4},
        (2, "downloaded"): {4},
        (2, "personalised"): {4},
        (3, "downloaded"): {9},
        (3, "personalised"): {9},
        (3, "global"): {11},
    }


def test_what_is_measured_does_not_change_what_is_learned(tmp_path: Path) -> None:
    def model(name: str, **evaluation: int) -> str:
        with simulated(tmp_path / name, tiny_experiment(evaluation=evaluation), GlobalTask()) as run:
            return run.database.get("model_sha256") + run.tickets_sha256()

    assert model("plain") == model("other", test_examples=1, global_examples=5)


def test_the_global_accuracy_is_in_the_summary_and_the_table(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(evaluation={"global_examples": 8}), GlobalTask()) as run:
        accuracy = summarise(run)["accuracy"]
        rows = list(run.database.select("SELECT accuracy FROM metrics WHERE phase = 'global' ORDER BY client"))
        table = final_table(run)
    values = [value for (value,) in rows]
    assert len(values) == 4
    assert accuracy["global_last"] == pytest.approx(sum(values) / 4)
    assert "global" in table.splitlines()[0]


def test_a_client_is_measured_on_the_same_examples_in_every_round() -> None:
    experiment = validate({"evaluation": {"test_examples": 10}, "clients": 3, "clients_per_round": 3}, "test")
    task = load_task(experiment)
    chosen: dict[int, TensorDataset] = {}
    for client in range(3):
        data = task.client_data(client)
        first, later = (
            TestData(task, experiment).own(pb.Assignment(round=round_, client=client), data) for round_ in (1, 30)
        )
        assert isinstance(first, TensorDataset)
        assert isinstance(later, TensorDataset)
        assert isinstance(data.test, TensorDataset)
        assert len(first) == 10
        assert all(torch.equal(a, b) for a, b in zip(first.tensors, later.tensors, strict=True))
        whole = {row.numpy().tobytes() for row in data.test.tensors[0]}
        assert {row.numpy().tobytes() for row in first.tensors[0]} <= whole
        assert TestData(task, experiment).own(pb.Assignment(round=31, client=client), data) is data.test
        chosen[client] = first
    with_other_seed = experiment.model_copy(update={"seed": 1})
    other = TestData(task, with_other_seed).own(pb.Assignment(round=1), task.client_data(0))
    assert isinstance(other, TensorDataset)
    assert not torch.equal(other.tensors[0], chosen[0].tensors[0])


def test_the_global_test_data_are_the_same_for_all_and_of_the_whole_task() -> None:
    experiment = validate({"evaluation": {"global_examples": 200}, "rounds": 2}, "test")
    task = load_task(experiment)
    drawn, again, all_ = task.global_test(200), load_task(experiment).global_test(200), task.global_test(10**6)
    assert isinstance(drawn, TensorDataset)
    assert isinstance(again, TensorDataset)
    assert isinstance(all_, TensorDataset)
    assert len(drawn) == 200
    assert torch.equal(drawn.tensors[0], again.tensors[0])
    assert set(drawn.tensors[1].tolist()) == set(range(10))
    assert len(all_) == 450
    measured = TestData(task, experiment)
    assert measured.everybodys(pb.Assignment(round=2)) is None
    everybodys = measured.everybodys(pb.Assignment(round=3, client=4))
    assert everybodys is measured.everybodys(pb.Assignment(round=3, client=5))
    assert isinstance(everybodys, TensorDataset)
    assert len(everybodys) == 200


def test_draws_are_without_replacement_in_order_and_of_any_data_set() -> None:
    indices = draw_indices(100, 30, 7)
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert (len(indices), indices.tolist()) == (30, draw_indices(100, 30, 7).tolist())
    assert indices.tolist() != draw_indices(100, 30, 8).tolist()
    assert draw_indices(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    data = TensorDataset(torch.arange(100), torch.arange(100))
    plain = draw_examples(data, 30, 7)
    assert plain[:][0].tolist() == indices.tolist()
    listed = draw_examples(Subset(data, range(100)), 30, 7)
    assert isinstance(listed, Sized)
    assert [int(listed[i][0]) for i in range(len(listed))] == indices.tolist()
    assert draw_examples(data, 100, 7) is data


MODULE = """
import torch
from torch import nn
def model(): return nn.Linear(2, 2)
def part(): return torch.ones(3, 2), torch.tensor([0, 1, 1])
def client(k, experiment): return part(), part(), part()
"""


def own_task(path: Path, more: str) -> Any:
    file = path / "mine.py"
    file.write_text(MODULE + more)
    experiment = validate({"task": {"name": str(file)}, "evaluation": {"global_examples": 2}}, "test")
    return load_task(experiment, [str(file)])


def test_a_task_of_ones_own_gives_global_test_data(tmp_path: Path) -> None:
    task = own_task(tmp_path, "def global_test(experiment): return torch.arange(10.).view(5, 2), torch.arange(5)\n")
    drawn = task.global_test(2)
    assert len(drawn) == 2
    assert drawn.tensors[0].tolist() == [[2.0 * k, 2.0 * k + 1] for k in drawn.tensors[1].tolist()]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("", r"mine\.py has no function global_test\(experiment\), which evaluation\.global_examples = 2 needs"),
        ("def global_test(experiment): return 3\n", r"what global_test\(\) in .*mine\.py returned is int"),
        ("def global_test(experiment): return []\n", r"returned is list of 0, expected a map-style Dataset"),
        ("def global_test(experiment): return torch.ones(0, 2), torch.ones(0).long()\n", "no global test examples"),
        ("def global_test(experiment): return 1 / 0\n", r"global_test\(\) failed at .*mine\.py:7: ZeroDivisionError"),
    ],
)
def test_a_task_without_global_test_data_is_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        own_task(tmp_path, more).global_test(2)


@pytest.mark.parametrize("asked", [True, False])
def test_a_result_with_too_much_or_too_little_is_refused(drive: Drive, asked: bool) -> None:
    bench = drive(tiny_experiment(rounds=1, evaluation={"global_examples": 5 * asked}), GlobalTask())
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    answer = bench.do(bench.take(worker))
    assert answer.result.metrics.HasField("global_test") == asked
    if asked:
        answer.result.metrics.ClearField("global_test")
    else:
        answer.result.metrics.global_test.CopyFrom(answer.result.metrics.personalised)
    reply = bench.submit(worker, answer)
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert reply.reason == f"metrics.global_test: {'missing' if asked else 'was not asked for in this round'}"
