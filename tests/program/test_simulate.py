"""Whole runs in one process: the promises over all rounds, interruptions, and what fails."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import LotteryFLError, TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.names import Digest
from lotteryfl.common.tasks import ClientData, load_task
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import client_summaries
from tests.support.bench import CPU, Bench, Tied, TinyTask, create, silent, simulated, tiny_experiment
from tests.support.scored import MAE, R2, ScoredTask

Drive = Callable[..., Bench]


def bits(run: RunDirectory) -> tuple[str, str]:
    return run.database.get("model_sha256"), run.tickets_sha256()


def densities(run: RunDirectory) -> list[float]:
    return [summary.density for summary in client_summaries(run.database, run.experiment.rounds + 1)]


def kept(run: RunDirectory, digest: Digest) -> dict[str, Tensor]:
    """Masks by name, of every prunable tensor."""
    masks = run.load_masks(digest)
    return {
        spec.name: packedmasks.unpack(masks[spec.name], spec.shape)
        if spec.name in masks
        else torch.ones(spec.shape, dtype=torch.bool)
        for spec in run.table
        if spec.prunable
    }


# ---- the promises over a whole run


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_a_mask_only_loses_bits_and_what_is_pruned_is_zero_in_every_model_handed_out(
    drive: Drive, wire_dtype: WireDtype
) -> None:
    experiment = tiny_experiment(rounds=4, strategy={"target_density": 0.2}, wire_dtype=wire_dtype)
    bench = drive(experiment, TinyTask(Tied))
    worker, run = bench.register(), bench.run
    last = {client: kept(run, Digest("")) for client in range(4)}
    losses = 0
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            bench.commit()
            continue
        work = bench.take(worker)
        client, digest = work.assignment.client, Digest(work.assignment.mask_digest)
        now = kept(run, digest)
        entries = parse(bytearray().join(assignment_payload(run, work)), "payload")
        tensors = run.wire.unpack(entries, run.load_masks(digest))
        for name, mask in now.items():
            assert torch.equal(mask, last[client][name])
            assert not tensors[name][~mask].any()
        answer = bench.do(work)
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
        after = kept(run, Digest(answer.result.mask_digest))
        for name, mask in after.items():
            assert not (mask & ~now[name]).any()
            losses += int((now[name] & ~mask).sum())
        last[client] = after
    assert losses > 50
    with simulated(bench.path.parent / "simulated", run.experiment, TinyTask(Tied)) as same:
        assert bits(same) == bits(run)


@pytest.mark.parametrize(("overshoot", "density"), [(False, 0.5), (True, 0.4096)])
def test_every_ticket_ends_exactly_at_the_target_density(tmp_path: Path, overshoot: bool, density: float) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 1250), nn.ReLU(), nn.Linear(1250, 3))  # 11250: 0.8⁴ of it is whole

    strategy = {"prune_rate": 0.2, "target_density": 0.5, "overshoot": overshoot}
    experiment = tiny_experiment(rounds=5, clients=3, strategy=strategy)
    with simulated(tmp_path / "run", experiment, TinyTask(model)) as run:
        assert densities(run) == [density] * 3
        assert summarise(run)["density"]["mean"] == pytest.approx(density)


def test_the_initial_model_never_changes(tmp_path: Path) -> None:
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        before = run.model_path(0).read_bytes()
        Simulation(run, TinyTask(), CPU).run(silent)
        assert run.model_path(0).read_bytes() == before
        assert bits(run)[0] != create(tmp_path / "fresh", run.experiment, TinyTask()).database.get("model_sha256")


@pytest.mark.parametrize("wire_dtype", ["float32", "float16", "int8"])
def test_every_aggregate_is_the_mean_over_those_who_keep_it(drive: Drive, wire_dtype: WireDtype) -> None:
    strategy = {"target_density": 0.1}
    bench = drive(tiny_experiment(rounds=4, clients_per_round=2, strategy=strategy, wire_dtype=wire_dtype))
    worker, run = bench.register(), bench.run
    disputed = lost = 0
    while not bench.coordinator.is_final:
        bench.do_all(worker)
        old = open_file(run.model_path(run.model_round))
        rows = run.database.results(bench.coordinator.round)
        total = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in old.items()}
        weight = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in old.items()}
        for row in rows:
            entries = open_file(run.path / row.file)
            values = {key: value for key, value in entries.items() if not key.startswith("mask/")}
            tensors, masks = run.wire.unpack(values, run.load_masks(row.mask)), kept(run, row.mask)
            for name, tensor in tensors.items():
                share = masks.get(name, torch.ones(tensor.shape)).double() * row.examples
                total[name] += tensor * share
                weight[name] += share
        bench.commit()
        new = open_file(run.model_path(run.model_round))
        for name, tensor in new.items():
            nobody = weight[name] == 0
            expected = torch.where(nobody, old[name], total[name] / weight[name])
            assert torch.allclose(tensor.double(), expected, rtol=1e-6)
            assert torch.equal(tensor[nobody], old[name][nobody])
            everyone = sum(row.examples for row in rows)
            disputed += int((~nobody & (weight[name] < everyone)).sum())
            lost += int(nobody.sum())
    assert disputed > 0, "no mask ever mattered"
    assert lost > 0


def test_integer_buffers_survive_every_round_of_a_task_of_ones_own(tmp_path: Path) -> None:
    task = tmp_path / "norms.py"
    task.write_text(
        "import torch\n"
        "from torch import nn\n"
        "def model():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))\n"
        "def client(k, experiment):\n"
        "    x = torch.randn(16 + 4 * k, 4, generator=torch.Generator().manual_seed(k))\n"
        "    data = (x, (x[:, 0] > 0).long())\n"
        "    return data, data, data\n"
    )
    experiment = tiny_experiment(clients_per_round=4, task={"name": str(task)})
    with create_run(tmp_path / "run", experiment, (str(task),)) as run:
        Simulation(run, load_task(experiment, (str(task),)), CPU).run(silent)
        model = open_file(run.model_path(2))
        steps = model["1.num_batches_tracked"]
        assert (steps.dtype, steps.item()) == (torch.int64, 14)  # client 3's: 28 examples are 7 batches, twice
        assert model["1.running_mean"].dtype == torch.float32
        assert model["1.running_mean"].any()
        assert (model["1.running_var"] > 0).all()


# ---- the same bits


def test_a_run_is_the_same_run_again_and_another_seed_is_another(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        with simulated(tmp_path / str(number), tiny_experiment(seed=seed)) as run:
            found.append(bits(run))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


def test_a_gate_that_never_opens_is_fedavg(tmp_path: Path) -> None:
    found = []
    for name in ("lotteryfl", "fedavg"):
        experiment = tiny_experiment(strategy={"name": name, "target_density": 1.0})
        with simulated(tmp_path / name, experiment) as run:
            found.append(bits(run))
            assert densities(run) == [1.0] * 4
    assert found[0] == found[1]


class Interrupting:
    """Ctrl-C at the n-th look at the run."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def __call__(self, status: pb.RunStatus) -> None:
        self._looks -= 1
        if self._looks == 0:
            raise KeyboardInterrupt


def test_an_interrupted_simulation_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    with simulated(tmp_path / "undisturbed", tiny_experiment()) as run:
        expected = bits(run)
    create(tmp_path / "run", tiny_experiment(), TinyTask()).close()
    for looks in itertools.cycle((2, 3, 5)):  # between and within rounds
        with RunDirectory(tmp_path / "run") as run:
            try:
                Simulation(run, TinyTask(), CPU).run(Interrupting(looks))
            except KeyboardInterrupt:
                continue
            assert bits(run) == expected
            break
    with RunDirectory(tmp_path / "run") as run:
        Simulation(run, TinyTask(), CPU).run(silent)  # finished: nothing is left to do
        assert bits(run) == expected


def test_a_simulation_takes_over_from_workers_that_are_gone(tmp_path: Path, drive: Drive) -> None:
    bench = drive()
    bench.submit(bench.register("a"), bench.do(bench.take(bench.register("a"))))
    bench.take(bench.register("a"))
    bench.take(bench.register("b"))
    bench.close()
    with RunDirectory(bench.path) as run, simulated(tmp_path / "undisturbed", tiny_experiment()) as same:
        Simulation(run, TinyTask(), CPU).run(silent)
        assert len(run.database.results(1)) == 3
        assert bits(run) == bits(same)


# ---- baselines, against plain torch


def descend(model: nn.Module, data: ClientData, experiment: Experiment) -> None:
    """Full-batch gradient descent with momentum, from the textbook."""
    inputs, labels = data.train.tensors  # type: ignore[attr-defined]
    speed = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for _ in range(experiment.training.epochs):
        loss = nn.functional.nll_loss(model(inputs).log_softmax(1), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(model.parameters(), speed, gradients, strict=True):
                v.mul_(experiment.training.momentum).add_(gradient)
                parameter.sub_(experiment.training.lr * v)


def full_batches(strategy: str) -> Experiment:
    training = {"epochs": 3, "batch_size": 1000, "lr": 0.3, "momentum": 0.5}
    return tiny_experiment(rounds=4, strategy={"name": strategy}, training=training)


def state_after(path: Path) -> dict[str, Tensor]:
    return {name.removeprefix("dense/"): tensor.clone() for name, tensor in open_file(path).items()}


def test_fedavg_is_federated_averaging(tmp_path: Path) -> None:
    experiment, task = full_batches("fedavg"), TinyTask()
    with simulated(tmp_path / "run", experiment) as run:
        shared = state_after(run.model_path(0))
        for round_ in range(1, 5):
            states, sizes = [], []
            for row in run.database.assignments(round_):
                model, data = task.model(), task.client_data(row.client)
                model.load_state_dict(shared)
                descend(model, data, experiment)
                states.append(model.state_dict())
                sizes.append(len(data.train))  # type: ignore[arg-type]
            shared = {
                name: sum(n / sum(sizes) * state[name] for n, state in zip(sizes, states, strict=True))
                for name in shared
            }
        result = state_after(run.model_path(4))
    for name, tensor in shared.items():
        torch.testing.assert_close(result[name], tensor, rtol=1e-4, atol=1e-6)


def test_standalone_trains_every_client_alone_and_the_shared_model_stays(tmp_path: Path) -> None:
    experiment, task = full_batches("standalone"), TinyTask()
    with simulated(tmp_path / "run", experiment) as run:
        initial = state_after(run.model_path(0))
        assert [path.name for path in (run.path / "models").iterdir()] == ["round-0000.safetensors"]
        assert bits(run)[0] == create(tmp_path / "fresh", experiment, task).database.get("model_sha256")
        for client in range(4):
            model, data = task.model(), task.client_data(client)
            model.load_state_dict(initial)
            times = sum(row.client == client for round_ in range(1, 6) for row in run.database.assignments(round_))
            assert times > 1
            for _ in range(times):
                descend(model, data, experiment)
            ticket = state_after(run.path / run.database.clients()[client].ticket)
            for name, tensor in model.state_dict().items():
                torch.testing.assert_close(ticket[name], tensor, rtol=1e-4, atol=1e-6)


# ---- what fails


class Poisoned(TinyTask):
    """Client 2's inputs are infinite: its model diverges in the first step."""

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        if client == 2:
            inputs, labels = data.train.tensors  # type: ignore[attr-defined]
            return ClientData(TensorDataset(inputs * torch.inf, labels), data.validation, data.test)
        return data


@pytest.mark.parametrize(
    ("wire_dtype", "reason"),
    [("float32", "metrics.train_loss = nan"), ("float16", "0.weight: value nan at flat index")],
)
def test_who_diverges_sits_out_on_record_and_the_others_go_on(
    tmp_path: Path, wire_dtype: WireDtype, reason: str
) -> None:
    experiment = tiny_experiment(clients_per_round=4, wire_dtype=wire_dtype)
    with simulated(tmp_path / "run", experiment, Poisoned()) as run:
        for round_ in (1, 2, 3):
            (dropped,) = [row for row in run.database.assignments(round_) if row.state == "dropped"]
            assert (dropped.client, dropped.attempt) == (2, 3)
            assert reason in dropped.reason
            assert "nan" in dropped.reason
        assert all(tensor.isfinite().all() for tensor in open_file(run.model_path(2)).values())
        assert [summary.client for summary in client_summaries(run.database, 3)] == [0, 1, 3]


def test_when_all_diverge_the_run_fails_with_the_reason(tmp_path: Path) -> None:
    with create(tmp_path / "run", tiny_experiment(training={"lr": 1e38}), TinyTask()) as run:
        with pytest.raises(
            LotteryFLError,
            match=r"round 1: 0 of 3 results, 1 needed: none has ever succeeded, and all clients were given up; "
            r"metrics.train_loss = nan",
        ):
            Simulation(run, TinyTask(), CPU).run(silent)
        assert run.state == "failed"


class Empty(TinyTask):
    def client_data(self, client: int) -> ClientData:
        raise TaskError(f"client {client} holds no test examples")


def test_clients_that_are_all_empty_fail_the_run_by_name_and_with_their_data_the_run_goes_on(tmp_path: Path) -> None:
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        with pytest.raises(LotteryFLError, match=r"the run failed: round 1: .*; client \d holds no test examples"):
            Simulation(run, Empty(), CPU).run(silent)
        assert run.state == "failed"
        Simulation(run, TinyTask(), CPU).run(silent)
        with simulated(tmp_path / "undisturbed", tiny_experiment()) as same:
            assert bits(run) == bits(same)


def test_a_task_that_is_judged_otherwise_than_the_run_is_refused(tmp_path: Path) -> None:
    with create(tmp_path / "run", tiny_experiment(), ScoredTask(R2)) as run:
        for task, score in ((TinyTask(), "accuracy"), (ScoredTask(MAE), "mae")):
            with pytest.raises(TaskError, match=rf"task tiny: its score is {score} \(.*/run r2 \(higher is better\)$"):
                Simulation(run, task, CPU)


# ---- real data


def test_digits_become_tickets(tmp_path: Path) -> None:
    changes = {"rounds": 4, "clients": 6, "clients_per_round": 6, "task": {"name": "digits", "model": "mlp"}}
    strategy = {"prune_rate": 0.4, "target_density": 0.25, "rewind": "none"}
    experiment = tiny_experiment(**changes, strategy=strategy, training={"epochs": 10, "lr": 0.1, "momentum": 0.9})
    with create_run(tmp_path / "run", experiment, ()) as run:
        Simulation(run, load_task(experiment), CPU).run(silent)
        summary = summarise(run)
    assert summary["accuracy"]["personalised_last"] > 0.9
    assert summary["accuracy"]["personalised_best"] >= summary["accuracy"]["personalised_last"]
    assert summary["density"]["mean"] == 0.25
