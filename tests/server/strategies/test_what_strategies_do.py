"""What makes each strategy that strategy, by hand or against an oracle; those of one mask have a file of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.payload import KEPT, OWN
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import ClientState
from tests.support.bench import Bench, Tied, TinyTask, tiny_experiment, tiny_mlp
from tests.support.playing import W, accuracies, assigned, create, mask_of, model, play, play_claiming, settings, ticket

Drive = Callable[..., Bench]


# ---- FedProx


def test_fedprox_pulls_every_step_towards_the_model_as_downloaded(drive: Drive) -> None:
    """Two steps of SGD by hand: the first starts where it is pulled to, the second does not."""
    plain, mu, lr = {"epochs": 2, "batch_size": 99, "momentum": 0.0, "lr": 0.2}, 0.7, 0.2
    bench = play(drive(tiny_experiment(**settings("fedprox", proximal=mu), rounds=1, training=plain)))
    for client in range(3):
        net = tiny_mlp()
        net.load_state_dict(model(bench, 0))
        start = [p.detach().clone() for p in net.parameters()]
        inputs, labels = TinyTask().client_data(client).train.tensors  # type: ignore[attr-defined]
        for _ in range(2):
            net.zero_grad()
            F.cross_entropy(net(inputs), labels).backward()
            with torch.no_grad():
                for p, origin in zip(net.parameters(), start, strict=True):
                    assert p.grad is not None
                    p.sub_(lr * (p.grad + mu * (p - origin)))
        for name, tensor in ticket(bench, client).items():
            torch.testing.assert_close(tensor, net.state_dict()[name])
    without = play(drive(tiny_experiment(**settings("fedavg"), rounds=1, training=plain), name="without"))
    assert not torch.equal(ticket(bench, 0)[W], ticket(without, 0)[W])


# ---- LG-FedAvg


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_lg_fedavg_never_averages_what_is_local_and_gives_it_back(drive: Drive, wire_dtype: WireDtype) -> None:
    """A prunable weight in the wire dtype, and its bias."""
    bench = drive(tiny_experiment(**settings("lg-fedavg", personal=["0.*"]), rounds=3, wire_dtype=wire_dtype))
    play(bench, 2)
    for name in ("0.weight", "0.bias"):
        assert torch.equal(model(bench)[name], model(bench, 0)[name])
    assert not torch.equal(model(bench)["2.weight"], model(bench, 0)["2.weight"])
    for client in range(3):
        before, own = assigned(bench, client), ticket(bench, client)
        assert all(torch.equal(before[name], own[name]) for name in ("0.weight", "0.bias"))
        assert not torch.equal(before["2.bias"], own["2.bias"])
        assert torch.equal(before["2.bias"], model(bench)["2.bias"])
    assert not torch.equal(ticket(bench, 0)[W], ticket(bench, 1)[W])


def test_who_has_never_taken_part_begins_with_the_global_models_local_part(drive: Drive) -> None:
    changes = settings("lg-fedavg", personal=["0.*"]) | {"clients": 4}
    bench = play(drive(tiny_experiment(**changes, rounds=1)))
    (idle,) = [row.client for row in bench.run.database.clients() if not row.ticket]
    assert torch.equal(assigned(bench, idle)[W], model(bench, 0)[W])


@pytest.mark.parametrize(
    ("name", "strategy", "message"),
    [
        ("lg-fedavg", {}, r"strategy.personal = \(\): lg-fedavg needs patterns that fit some of the model's tensors"),
        ("lg-fedavg", {"personal": ["*"]}, "lg-fedavg needs patterns that fit some of"),
        ("one-ticket", {}, r"strategy.personal = \(\): one-ticket needs patterns that fit some of"),
        (
            "lg-fedavg",
            {"personal": ["conv*"]},
            r"strategy.personal = 'conv\*': fits none of .*: 0.bias, 0.weight, 2.bias",
        ),
        ("lotteryfl", {"personal": ["0.bias", "x"]}, "strategy.personal = 'x': fits none of the model's tensors"),
        ("cell", {"personal": ["0.*"]}, "'0.weight' is prunable, and with strategy.name = 'cell' a client has no mask"),
        ("feddst", {"personal": ["2.weight"]}, "strategy.personal: '2.weight' is prunable"),
        ("sub-fedavg", {}, "training.epochs = 1: sub-fedavg compares the masks of the first and the last epoch"),
    ],
)
def test_settings_that_do_not_go_with_a_strategy_are_named_before_anything_is_written(
    drive: Drive, name: str, strategy: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        drive(tiny_experiment(**settings(name, **strategy)))
    assert not list(drive(tiny_experiment(), name="other").path.parent.glob("run"))


def test_where_steps_are_counted_there_are_no_epochs_to_compare(drive: Drive) -> None:
    changes = settings("sub-fedavg") | {"training": {"epochs": 5, "steps": 7}}
    with pytest.raises(
        ExperimentError, match=r"^training\.steps = 7: sub-fedavg compares .* epoch: expected 0, or strat"
    ):
        drive(tiny_experiment(**changes))


def test_zeros_are_counted_in_means_only(drive: Drive) -> None:
    with pytest.raises(ExperimentError, match=r"aggregation.rule = 'median': .*'cell'.* expected 'mean'"):
        drive(tiny_experiment(**settings("cell"), aggregation={"rule": "median"}))


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_a_personal_tensor_may_be_pruned(drive: Drive, wire_dtype: WireDtype) -> None:
    """It comes back under the client's mask, with its scales."""
    bench = play(drive(tiny_experiment(**settings("lotteryfl", personal=[W]), rounds=3, wire_dtype=wire_dtype)), 2)
    for client in range(3):
        kept, own = mask_of(bench, client), ticket(bench, client)
        before = assigned(bench, client)
        assert 0 < int(kept.sum()) < kept.numel()
        assert torch.equal(before[W], own[W])
        assert not before[W][~kept].any()
        assert not torch.equal(before["2.weight"], own["2.weight"])


# ---- LotteryFL as in its code


def test_the_papers_preset_is_all_five_switches_and_what_is_given_wins() -> None:
    experiment = tiny_experiment(strategy={"preset": "paper"})
    plan = create_strategy(experiment).plan(1, ClientState(0))
    assert (plan.prune.scope, plan.prune.gate_test_examples) == (pb.Plan.LAYER, 80)
    assert (plan.prune.overshoot, plan.rewind) == (True, pb.Plan.EVERYTHING)
    assert experiment.aggregation.weighting == "equal"
    given = {"preset": "paper", "scope": "global", "gate": "validation", "rewind": "none", "overshoot": False}
    experiment = tiny_experiment(strategy=given, aggregation={"weighting": "examples"})
    plan = create_strategy(experiment).plan(1, ClientState(0))
    assert (plan.prune.scope, plan.prune.gate_test_examples) == (pb.Plan.GLOBAL, 0)
    assert (plan.prune.overshoot, plan.rewind) == (False, pb.Plan.NONE)
    assert experiment.aggregation.weighting == "examples"


def test_lotteryfl_says_its_settings() -> None:
    plan = create("lotteryfl").plan(1, ClientState(0))
    assert (plan.prune.rate, plan.prune.target_density, plan.prune.accuracy_threshold) == (0.3, 0.5, 0.0)
    assert (plan.prune.scope, plan.prune.overshoot, plan.rewind) == (pb.Plan.GLOBAL, False, pb.Plan.INITIAL)
    assert not plan.prune.after_training
    changes = {"scope": "layer", "overshoot": True, "rewind": "none", "accuracy_threshold": 0.7}
    plan = create("lotteryfl", **changes).plan(1, ClientState(0))
    assert (plan.prune.scope, plan.prune.overshoot, plan.rewind) == (pb.Plan.LAYER, True, pb.Plan.NONE)
    assert plan.prune.accuracy_threshold == 0.7


@pytest.mark.parametrize(("weighting", "weights"), [("examples", [8, 9, 10]), ("equal", [1, 1, 1])])
def test_clients_count_by_their_examples_or_alike(drive: Drive, weighting: str, weights: list[int]) -> None:
    bench = play(drive(tiny_experiment(**settings("fedavg"), rounds=1, aggregation={"weighting": weighting})))
    values = np.stack([ticket(bench, client)[W].double().numpy() for client in range(3)])
    expected = np.average(values, axis=0, weights=weights).astype(np.float32)
    assert np.array_equal(model(bench)[W].numpy(), expected)


# ---- CELL


def test_cell_prunes_the_whole_model_anew_and_counts_zeros(drive: Drive) -> None:
    """Who is not good enough in the first round trains the whole model: it brings back what others have pruned."""
    judged = play(drive(tiny_experiment(**settings("lotteryfl"), rounds=1), name="judged")).run.database.results(1)
    best = max(row.validation_score or 0.0 for row in judged)
    assert best > min(row.validation_score or 0.0 for row in judged)
    changes = settings("cell", prune_rate=0.5, accuracy_threshold=best, threshold_decay=1e-9)
    bench = play(drive(tiny_experiment(**changes, rounds=3, training={"epochs": 10, "lr": 0.3})))
    first = [mask_of(bench, client) for client in range(3)]
    sent = [ticket(bench, client)[W].double().numpy() for client in range(3)]
    expected = np.average(np.stack(sent), axis=0, weights=[8, 9, 10]).astype(np.float32)
    assert np.array_equal(model(bench)[W].numpy(), expected)
    for client in range(3):
        assert torch.equal(assigned(bench, client)[W], model(bench)[W]), "the whole model, not what its mask keeps"
    play(bench)
    second = [mask_of(bench, client) for client in range(3)]
    pruned_first = [row.client for row in judged if row.validation_score == best]
    assert [bool((~mask).any()) for mask in first] == [client in pruned_first for client in range(3)]
    assert any(bool((second[client] & ~first[client]).any()) for client in pruned_first), "masks only shrank"
    assert {row.density for row in bench.run.database.clients()} == {54 / 108}


def cell(*densities: float, **strategy: Any) -> pb.Plan:
    return create("cell", **strategy).plan(9, ClientState(0, lambda: densities))


def test_cells_threshold_decays_while_a_client_does_not_prune_and_its_density_goes_down_in_steps() -> None:
    """Rate of all weights; a round without pruning has density 1 and forgets nothing of how far the client was."""
    changes = {"accuracy_threshold": 0.8, "threshold_decay": 0.5, "prune_rate": 0.2, "target_density": 0.5}
    expected = [
        ((), 0.2, 0.8),
        ((1.0,), 0.2, 0.4),
        ((1.0, 1.0), 0.2, 0.2),
        ((1.0, 0.8), 0.4, 0.8),
        ((1.0, 0.8, 1.0), 0.4, 0.4),
        ((0.8, 0.6), 0.5, 0.8),
    ]
    for densities, rate, threshold in expected:
        plan = cell(*densities, **changes)
        assert (plan.prune.rate, plan.prune.accuracy_threshold) == (pytest.approx(rate), pytest.approx(threshold))
        assert plan.rewind == pb.Plan.INITIAL
    arrived = cell(0.8, 0.6, 0.5, **changes)
    assert (arrived.prune.rate, arrived.prune.accuracy_threshold) == (0.5, 0)
    assert arrived.rewind == pb.Plan.NONE, "rewound in every round it would never come to anything"
    final = create("cell", **changes).final_plan(ClientState(0, lambda: (0.8, 1.0)))
    assert (final.prune.rate, final.prune.target_density) == (pytest.approx(0.2), 0.8)


def test_cell_broadcasts_the_model_that_every_client_wants_whole(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("cell"), rounds=2), broadcasts=True))
    assert bench.take(bench.register()).assignment.base_digest == bench.run.model_digest
    own = play(drive(tiny_experiment(**settings("lg-fedavg", personal=["0.*"]), rounds=2), name="own", broadcasts=True))
    assert own.take(own.register()).assignment.base_digest == ""


# ---- Sub-FedAvg


@pytest.mark.parametrize(("least", "prunes"), [(0.0, True), (0.001, True), (0.9, False)])
def test_sub_fedavg_prunes_after_training_where_masks_still_change(drive: Drive, least: float, prunes: bool) -> None:
    training = {"epochs": 3}
    bench = play(drive(tiny_experiment(**settings("sub-fedavg", min_mask_change=least), rounds=1, training=training)))
    trained = play(drive(tiny_experiment(**settings("fedavg"), rounds=1, training=training), name="trained"))
    for client in range(3):
        mask, values = mask_of(bench, client), ticket(trained, client)[W]
        assert bool(mask.all()) != prunes
        assert torch.equal(ticket(bench, client)[W], torch.where(mask, values, 0.0)), "not the weights as trained"
        assert values[mask].abs().min() >= (values[~mask].abs().max() if prunes else 0)


def test_sub_fedavg_prunes_only_where_accuracy_holds(drive: Drive) -> None:
    changes = settings("sub-fedavg", min_mask_change=0.0, accuracy_threshold=1.0)
    bench = play(drive(tiny_experiment(**changes, rounds=1)))
    accuracy = {row.client: row.validation_score or 0.0 for row in bench.run.database.results(1)}
    for client in range(3):
        assert bool(mask_of(bench, client).all()) == (accuracy[client] < 1)
    assert min(accuracy.values()) < 1


# ---- FedLTN


def test_fedltn_keeps_batch_norm_local_and_never_rewinds(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("fedltn"), rounds=3), TinyTask(Tied)), 2)
    norm = [name for name in model(bench) if name.startswith("norm.")]
    assert len(norm) == 5
    for client in range(3):
        before, own = assigned(bench, client), ticket(bench, client)
        assert all(torch.equal(before[name], own[name]) for name in norm)
        assert not torch.equal(own["norm.running_mean"], model(bench, 0)["norm.running_mean"])
    assert all(torch.equal(model(bench)[name], model(bench, 0)[name]) for name in norm)
    assert create("fedltn").plan(1, ClientState(0)).rewind == pb.Plan.NONE


def test_fedltns_server_has_momentum(drive: Drive) -> None:
    """Its first step is the mean itself; the second goes on in its direction. By the formula, on a bias."""
    bench = drive(tiny_experiment(**settings("fedltn"), server={"momentum": 0.5}, rounds=2))
    means = []
    for _ in range(2):
        bench.do_all(bench.register())
        results = bench.run.database.results(bench.coordinator.round)
        sent = [open_file(bench.path / row.file)["dense/0.bias"].double().numpy() for row in results]
        means.append(np.average(np.stack(sent), axis=0, weights=[row.examples for row in results]))
        bench.commit()
        if len(means) == 1:
            initial, first = (model(bench, round_)["0.bias"].double().numpy() for round_ in (0, 1))
    np.testing.assert_allclose(first, means[0], rtol=1e-5, atol=1e-7)
    velocity = 0.5 * (initial - means[0]) + (first - means[1])
    np.testing.assert_allclose(model(bench)["0.bias"].numpy(), first - velocity, rtol=1e-5, atol=1e-6)
    assert create("fedltn").server_optimizer().optimizer == "sgd"
    adam = create_strategy(tiny_experiment(strategy={"name": "fedltn"}, server={"optimizer": "adam"}))
    assert adam.server_optimizer().optimizer == "adam"


def test_fedltns_jump_start_takes_the_best_clients_model(drive: Drive) -> None:
    bench = drive(tiny_experiment(**settings("fedltn", jump_start_epochs=4), rounds=2), TinyTask(Tied))
    assert {row.plan.train.epochs for row in bench.run.database.assignments(1)} == {4}
    play_claiming(bench, accuracies(0.4, 0.9, 0.9))
    best = ticket(bench, 1)
    for name, tensor in model(bench).items():
        expected = model(bench, 0)[name] if name.startswith("norm.") else best[name]
        assert torch.equal(tensor, expected)
    assert {row.density for row in bench.run.database.clients()} == {1.0}
    assert {row.plan.train.epochs for row in bench.run.database.assignments(2)} == {1}
    play(bench)
    assert max(row.density for row in bench.run.database.clients()) < 1


# ---- Hermes


def test_hermes_prunes_whole_rows_after_training_but_none_of_the_last_layer(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("hermes"), rounds=1)))
    trained = play(drive(tiny_experiment(**settings("fedavg"), rounds=1), name="trained"))
    for client in range(3):
        rows = mask_of(bench, client).float().mean(dim=1)
        assert set(rows.tolist()) == {0.0, 1.0}
        assert mask_of(bench, client, "2.weight").all()
        norms = ticket(trained, client)[W].abs().sum(dim=1)
        assert norms[rows == 0].max() < norms[rows == 1].min()


# ---- FedSelect


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_fedselects_own_part_grows_and_is_given_back_bit_for_bit(drive: Drive, wire_dtype: WireDtype) -> None:
    changes = settings("fedselect", personal_rate=0.2, personal_limit=0.3)
    bench = drive(tiny_experiment(**changes, rounds=4, wire_dtype=wire_dtype))
    owned = [0, round(0.2 * 108), round(0.3 * 108), round(0.3 * 108)]
    previous = [torch.ones(12, 6, dtype=torch.bool)] * 3
    for round_ in range(1, 4):
        play(bench)
        assert {row.density for row in bench.run.database.clients()} == {1 - owned[round_] / 108}
        shared = [mask_of(bench, client) for client in range(3)]
        assert not any(bool((new & ~old).any()) for new, old in zip(shared, previous, strict=True))
        previous = shared
        for client, mask in enumerate(shared):
            before, own = assigned(bench, client), ticket(bench, client)
            assert torch.equal(before[W][~mask], own[W][~mask])
            if wire_dtype == "float32":
                assert torch.equal(before[W][mask], model(bench)[W][mask])


def test_fedselect_takes_what_moves_most_and_averages_over_those_who_share(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("fedselect", personal_rate=0.2, personal_limit=0.5), rounds=1)))
    start = model(bench, 0)
    for client in range(3):
        after, names = ticket(bench, client), (W, "2.weight")
        moved = torch.cat([(after[name] - start[name]).abs().flatten() for name in names])
        shared = torch.cat([mask_of(bench, client, name).flatten() for name in names])
        assert int((~shared).sum()) == round(0.2 * 108)
        assert moved[~shared].min() >= moved[shared].max()
        assert after[W].all(), "what is not shared is not pruned"
    values = np.stack([ticket(bench, client)[W].double().numpy() for client in range(3)])
    weights = np.array([8, 9, 10])[:, None, None] * np.stack([mask_of(bench, client).numpy() for client in range(3)])
    total = weights.sum(axis=0)
    mean = (values * weights).sum(axis=0) / np.maximum(total, 1)
    expected = np.where(total > 0, mean, start[W].double().numpy()).astype(np.float32)
    np.testing.assert_array_max_ulp(model(bench)[W].numpy(), expected, 1)


def test_fedselects_own_weights_travel_as_they_are(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("fedselect", personal_rate=0.2), rounds=2, wire_dtype="int8")))
    entries = open_file(bench.path / bench.run.database.clients()[0].ticket)
    assert (entries[KEPT + W].dtype, entries[OWN + W].dtype) == (torch.int8, torch.float32)


# ---- what strategies have in common


def test_the_last_round_is_as_long_as_it_is_told(drive: Drive) -> None:
    bench = drive(tiny_experiment(**settings("fedavg-finetune", finetune_epochs=5), rounds=1))
    assert {row.plan.train.epochs for row in bench.run.database.assignments(1)} == {1}
    play(bench)
    assert {row.plan.train.epochs for row in bench.run.database.assignments(2)} == {5}


def test_history_is_asked_for_only_by_who_wants_it(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wanted in (("lotteryfl", False), ("cell", True)):
        bench = drive(tiny_experiment(**settings(name), rounds=2), name=name)
        asked: list[int] = []
        densities = bench.run.database.densities
        monkeypatch.setattr(bench.run.database, "densities", lambda c, f=densities, a=asked: (a.append(c), f(c))[1])
        play(bench)
        sampled = sorted(bench.coordinator.strategy.sample(2))
        assert asked == sampled * wanted  # once each, and of nobody else


def test_an_int8_run_of_every_kind_of_payload_goes_on_from_what_arrived(drive: Drive) -> None:
    """Own weights, personal tensors and a server's momentum at once."""
    changes = settings("fedselect", personal=["2.bias"], personal_rate=0.2)
    bench = drive(tiny_experiment(**changes, rounds=3, wire_dtype="int8", server={"optimizer": "sgd"}))
    assert bench.finish().coordinator.advance() is Step.ENDED
    again = drive(tiny_experiment(**changes, rounds=3, wire_dtype="int8", server={"optimizer": "sgd"}), name="again")
    assert again.finish().bits() == bench.bits()
