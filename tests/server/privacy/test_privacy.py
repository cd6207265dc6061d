"""Client-level privacy over whole runs: what is bounded, what has noise, what is kept back, and what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.aggregation.update import Update, update_norm
from lotteryfl.server.privacy.noise import noisy_means
from lotteryfl.server.privacy.promise import check_privacy
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES, create_strategy
from tests.support.bench import CPU, Bench, Tied, TinyTask, silent, simulated, tiny_experiment, tiny_mlp

Drive = Callable[..., Bench]

EQUAL = {"aggregation": {"weighting": "equal"}}
SUITED = {"fedavg", "fedavg-finetune", "fedprox"}


def bits(run: RunDirectory) -> tuple[str, str]:
    return run.database.get("model_sha256"), run.tickets_sha256()


def norms(bench: Bench) -> list[float]:
    """Of the updates in the open round."""
    run = bench.run
    old = open_file(run.model_path(run.model_round))
    found = []
    for row in run.database.results(bench.coordinator.round):
        update = Update(row.client, 1, run.load_masks(row.mask), open_file(run.tensor_path(row.file)))
        found.append(update_norm(run.table, old, update))
    return found


# ---- bounded


@pytest.mark.parametrize("strategy", ["fedavg", "lotteryfl", "cell", "fedselect"])
def test_every_aggregated_update_is_within_its_bound_and_the_same_again_gives_the_same_bits(
    drive: Drive, strategy: str
) -> None:
    experiment = tiny_experiment(strategy={"name": strategy}, training={"lr": 1.0}, privacy={"clip_norm": 0.05})
    bench = drive(experiment)
    worker = bench.register()
    seen: list[list[float]] = []
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            seen.append(norms(bench))
            bench.commit()
        else:
            work = bench.take(worker)
            assert bench.submit(worker, bench.do(work)).verdict == pb.SubmitReply.ACCEPTED
    *rounds, last = seen
    assert len(rounds) == 2
    for found in rounds:
        assert max(found) == pytest.approx(0.05, rel=1e-5)
        assert max(found) <= 0.05 * (1 + 1e-5)
    assert max(last) > 0.1  # is not aggregated
    with simulated(bench.path.parent / "again", experiment) as same:
        assert bits(same) == bits(bench.run)


def test_the_server_bounds_what_a_worker_did_not(drive: Drive) -> None:
    bench = drive(tiny_experiment(strategy={"name": "fedavg"}, **EQUAL, privacy={"clip_norm": 0.5, "noise": "server"}))
    worker = bench.register()
    work = bench.take(worker)
    answer = bench.do(work)
    answer.entries["dense/0.weight"] = answer.entries["dense/0.weight"] + 1.0
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    (row,) = bench.run.database.results(1)
    assert row.scale < 0.1
    (norm,) = norms(bench)
    assert norm * row.scale == pytest.approx(0.5)


@pytest.mark.parametrize("options", ["noise", "clip"])
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_no_client_moves_the_model_beyond_the_bound_whatever_its_weights_travel_in(
    drive: Drive, wire_dtype: str, options: str
) -> None:
    bound, changes = 0.01, {"strategy": {"name": "fedavg"}, "wire_dtype": wire_dtype, **EQUAL}
    bounded: dict[str, Any] = {
        "noise": {"privacy": {"clip_norm": bound, "noise": "server"}},
        "clip": {"checks": {"max_update_norm": bound, "on_large_update": "clip"}},
    }[options]
    bench = drive(tiny_experiment(**changes))
    run = bench.run
    run.experiment = tiny_experiment(**changes, **bounded)  # of which the worker does not know
    bench.do_all(bench.register())
    old, rows = open_file(run.model_path(0)), run.database.results(1)
    updates = [Update(row.client, 1, {}, open_file(run.tensor_path(row.file)), row.scale) for row in rows]
    assert all(update.scale < 0.1 for update in updates)
    assert max(update_norm(run.table, old, update) for update in updates) <= bound


# ---- noise


def means_of(old: dict[str, Tensor], update: float) -> dict[str, Tensor]:
    return {name: values + update for name, values in old.items()}


def test_the_servers_noise_is_of_its_deviation_around_the_sum_over_the_clients_asked() -> None:
    table = TensorTable.of(nn.Linear(400, 300))
    old = {spec.name: torch.full(spec.shape, 2.0) for spec in table}
    kept = torch.rand(300, 400, generator=torch.Generator().manual_seed(0)) < 0.5
    privacy = tiny_experiment(privacy={"clip_norm": 4.0, "noise_multiplier": 0.5}).privacy
    found = dict(
        noisy_means(
            old,
            iter(means_of(old, 1.0).items()),
            {"weight": packedmasks.pack(kept)},
            privacy,
            results=3,
            clients=4,
            source=np.random.default_rng(0).bytes,
        )
    )
    assert (found["weight"][~kept] == 2.75).all()  # three of four moved it by 1
    noise = found["weight"][kept] - 2.75
    assert stats.kstest(noise.numpy(), stats.norm(0, 0.5).cdf).pvalue > 0.01
    assert found["bias"].dtype is torch.float32
    assert float((found["bias"] - 2.75).std()) == pytest.approx(0.5, rel=0.15)


def test_a_run_with_noise_ends_in_another_model_each_time_and_the_noise_is_in_the_model(tmp_path: Path) -> None:
    quiet = tiny_experiment(rounds=1, strategy={"name": "fedavg"}, **EQUAL, privacy={"clip_norm": 0.1})
    noisy = tiny_experiment(
        rounds=1,
        strategy={"name": "fedavg"},
        **EQUAL,
        privacy={"clip_norm": 0.1, "noise": "server", "noise_multiplier": 300.0},
    )
    models = []
    for name, experiment in (("quiet", quiet), ("one", noisy), ("two", noisy)):
        with simulated(tmp_path / name, experiment) as run:
            models.append(open_file(run.model_path(1)))
    differences = [torch.cat([(m[n] - models[0][n]).flatten() for n in m]) for m in models[1:]]
    assert not torch.equal(*differences)
    for difference in differences:  # 300 · 0.1 / 3 clients, in 123 values
        assert 7.5 < float(difference.std()) < 12.5


def test_a_clients_own_noise_is_in_what_it_sends_in_the_last_round_too(drive: Drive) -> None:
    privacy = {"clip_norm": 0.1, "noise": "client", "noise_multiplier": 100.0}
    bench = drive(tiny_experiment(rounds=1, clients=3, strategy={"name": "fedavg"}, privacy=privacy))
    worker = bench.register()
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            for norm in norms(bench):
                assert 85 < norm < 140  # 10 · √123 = 111
            bench.commit()
        else:
            bench.submit(worker, bench.do(bench.take(worker)))


def test_feddst_without_exchanges_has_noise_on_its_fixed_mask_alone(tmp_path: Path) -> None:
    experiment = tiny_experiment(
        strategy={"name": "feddst", "target_density": 0.5, "readjust_rate": 0.0, "readjust_every": 1},
        **EQUAL,
        privacy={"clip_norm": 0.1, "noise": "server"},
    )
    task = TinyTask()
    model = task.model()
    table, strategy = TensorTable.of(model), create_strategy(experiment)
    check_privacy(strategy, table)
    masks = strategy.masks_of_initial(table, named_tensors(model))
    with RunDirectory.create(tmp_path / "run", experiment, table, named_tensors(model), masks) as run:
        Simulation(run, task, CPU).run(silent)
        before, after = (open_file(run.model_path(round_)) for round_ in (0, 2))
        for name, packed in masks.items():
            kept = packedmasks.unpack(packed, after[name].shape)
            assert torch.equal(after[name] != 0, kept)
            assert (after[name] != before[name])[kept].all()


# ---- kept back


@pytest.mark.parametrize("privacy", [{"clip_norm": 1.0, "noise": "client"}, {"dp_sgd": True}])
def test_the_exact_training_loss_stays_with_the_client(drive: Drive, privacy: dict[str, Any]) -> None:
    experiment = tiny_experiment(strategy={"name": "fedavg"}, privacy=privacy)
    bench = drive(experiment)
    work, run = bench.take(bench.register()), bench.run
    told: list[float] = []
    entries = parse(bytearray().join(assignment_payload(run, work)), "payload")
    runner = AssignmentRunner(TinyTask(), experiment, run.model_table, open_file(run.model_path(0)), CPU)
    outcome = runner.run(work.assignment, entries, {}, lambda epoch, step, loss: told.append(float(loss)))
    assert outcome.metrics.train_loss == 0.0
    assert told
    assert not any(told)


# ---- refused


@pytest.mark.parametrize("noise", ["client", "server"])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_noise_is_for_strategies_whose_clients_send_the_same_elements(name: str, noise: str) -> None:
    strategy: dict[str, Any] = {"name": name, "readjust_every": 1}
    if name == "lg-fedavg":
        strategy["personal"] = ["2.*"]
    experiment = tiny_experiment(rounds=4, strategy=strategy, **EQUAL, privacy={"clip_norm": 1.0, "noise": noise})
    table = TensorTable.of(tiny_mlp())
    if name in SUITED:
        check_privacy(create_strategy(experiment), table)
        return
    with pytest.raises(ExperimentError, match=f"strategy.name = '{name}'"):
        check_privacy(create_strategy(experiment), table)


@pytest.mark.parametrize("noise", ["client", "server"])
def test_buffers_cannot_bear_noise(noise: str) -> None:
    experiment = tiny_experiment(strategy={"name": "fedavg"}, **EQUAL, privacy={"clip_norm": 1.0, "noise": noise})
    with pytest.raises(ExperimentError, match=r"the model's 'norm\.num_batches_tracked' .* cannot bear noise"):
        check_privacy(create_strategy(experiment), TensorTable.of(Tied()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_in_half_precision_are_rounded_beyond_their_bound(dtype: torch.dtype) -> None:
    experiment = tiny_experiment(strategy={"name": "fedavg"}, privacy={"dp_sgd": True})
    with pytest.raises(
        ExperimentError, match=rf"privacy\.dp_sgd: the model's '0\.bias' is of {dtype}, .* expected float32"
    ):
        check_privacy(create_strategy(experiment), TensorTable.of(tiny_mlp().to(dtype)))
    check_privacy(create_strategy(experiment), TensorTable.of(tiny_mlp().double()))


@pytest.mark.parametrize("name", ["ssfl", "feddst"])
def test_dp_sgd_does_not_cover_gradients_taken_beside_the_training(name: str) -> None:
    experiment = tiny_experiment(rounds=4, strategy={"name": name, "readjust_every": 1}, privacy={"dp_sgd": True})
    with pytest.raises(ExperimentError, match=f"strategy.name = '{name}': its clients send saliencies or exchange"):
        check_privacy(create_strategy(experiment), TensorTable.of(tiny_mlp()))


def test_clients_of_different_widths_have_no_noise_for_all() -> None:
    equal, noise = {"weighting": "equal"}, {"clip_norm": 1.0, "noise": "server"}
    experiment = tiny_experiment(strategy={"name": "heterofl"}, aggregation=equal, privacy=noise)
    with pytest.raises(ExperimentError, match=r"'heterofl' clients have masks of their own, .* expected fedavg"):
        check_privacy(create_strategy(experiment), TensorTable.of(tiny_mlp()))


def test_a_run_that_cannot_keep_its_promise_is_not_set_up(tmp_path: Path) -> None:
    experiment = Experiment.model_validate({**EQUAL, "privacy": {"clip_norm": 1.0, "noise": "server"}})
    with pytest.raises(ExperimentError, match=r"with strategy.name = 'lotteryfl' a client's mask comes from its data"):
        create_run(tmp_path / "run", experiment, ())
    assert not (tmp_path / "run").exists()


def test_a_run_whose_experiment_was_changed_behind_its_back_does_not_go_on(tmp_path: Path) -> None:
    experiment = tiny_experiment(**EQUAL, privacy={"clip_norm": 1.0, "noise": "server"})
    model = TinyTask().model()
    with (
        RunDirectory.create(tmp_path / "run", experiment, TensorTable.of(model), named_tensors(model)) as run,
        pytest.raises(ExperimentError, match=r"strategy\.name = 'lotteryfl'"),
    ):
        Simulation(run, TinyTask(), CPU)


@pytest.mark.parametrize("privacy", [{"clip_norm": 1.0, "noise": "client"}, {"dp_sgd": True}])
def test_without_opacus_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, privacy: dict[str, Any]) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants.analysis", None)
    experiment = Experiment.model_validate({"strategy": {"name": "fedavg"}, "privacy": privacy})
    with pytest.raises(ExperimentError, match=r"Opacus, which is not installed: pip install 'lotteryfl\[privacy\]'"):
        create_run(tmp_path / "run", experiment, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": {"noise": "server"}, **EQUAL}, r"privacy\.clip_norm = 0: must be more than 0"),
        ({"privacy": {"noise": "server", "clip_norm": 1.0}}, r"aggregation\.weighting = 'examples': must be 'equal'"),
        (
            {"privacy": {"noise": "server", "clip_norm": 1.0}, "aggregation": {"rule": "median"}},
            r"aggregation\.rule = 'median': must be 'mean'",
        ),
        ({"privacy": {"noise": "client", "clip_norm": 1.0, "dp_sgd": True}}, r"must be 'none' with privacy\.dp_sgd"),
        ({"privacy": {"delta": 1.0}}, r"privacy\.delta = 1\.0"),
        ({"privacy": {"noise_multiplier": 0}}, r"privacy\.noise_multiplier = 0"),
    ],
)
def test_settings_without_a_guarantee_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**changes)
