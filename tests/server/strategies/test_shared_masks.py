"""What makes the strategies of one mask for all those strategies, by hand or against an oracle."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies import create_strategy
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.damage import problems
from tests.support.playing import W, assigned, model, play, settings, ticket

Drive = Callable[..., Bench]


# ---- SSFL


@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_ssfls_one_mask_is_of_the_largest_mean_saliencies(drive: Drive, wire_dtype: str) -> None:
    """Against autograd: |gradient of the mean loss × weight| of θ_0 as it travels, averaged by examples."""
    bench = play(drive(tiny_experiment(**settings("ssfl", target_density=0.4), rounds=3, wire_dtype=wire_dtype)))
    net, mean, wire = tiny_mlp(), torch.zeros(108, dtype=torch.float64), bench.run.wire
    net.load_state_dict(wire.unpack(wire.pack(model(bench, 0), {}), {}))
    weights = [layer.weight for layer in net if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
    for client in range(3):
        inputs, labels = TinyTask().client_data(client).train.tensors  # type: ignore[attr-defined]
        gradients = torch.autograd.grad(F.cross_entropy(net(inputs), labels), weights)
        saliency = [(g * w).detach().abs().flatten() for g, w in zip(gradients, weights, strict=True)]
        mean += torch.cat(saliency).double() * (8 + client) / 27
    kept = torch.zeros(108, dtype=torch.bool)
    kept[mean.topk(round(0.4 * 108)).indices] = True
    masks = bench.run.load_masks(bench.run.shared_mask.digest)
    assert torch.equal(torch.cat([unpack(masks[n], bench.run.table[n].shape).flatten() for n in masks]), kept)
    assert {row.mask for row in bench.run.database.assignments(2)} == {bench.run.shared_mask.digest}
    first = wire.unpack(wire.pack(model(bench, 0), masks), masks)[W]
    assert torch.equal(assigned(bench, 1)[W], torch.where(kept[:72].view(12, 6), first, 0.0))


class Faint(TinyTask):
    """Its saliencies are about 1e-9, far below what float16 has."""

    def model(self) -> nn.Module:
        net = super().model()
        with torch.no_grad():
            for layer in (net[0], net[2]):  # type: ignore[index]
                layer.weight.mul_(1e-4)
        return net


@pytest.mark.parametrize("strategy", ["ssfl", "one-ticket"])
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_saliencies_travel_in_float32_whatever_weights_travel_in(drive: Drive, strategy: str, wire_dtype: str) -> None:
    changes = settings(strategy, target_density=0.5, personal=["2.*"] if strategy == "one-ticket" else [])
    bench = drive(tiny_experiment(**changes, rounds=3, wire_dtype=wire_dtype), Faint())
    bench.do_all(bench.register())
    assert problems(bench.path) == []
    for row in bench.run.database.results(1):
        entries = open_file(bench.path / row.file)
        assert {key: values.dtype for key, values in entries.items()} == dict.fromkeys(
            (f"dense/{spec.name}" for spec in bench.run.table), torch.float32
        )
        weights = torch.cat([values.flatten() for key, values in entries.items() if key.endswith("weight")])
        assert 0 < float(weights[weights > 0].median()) < 6e-8
    assert all(row.plan.lossless == (wire_dtype != "float32") for row in bench.run.database.assignments(1))
    bench.commit()
    masks = bench.run.load_masks(bench.run.shared_mask.digest)
    assert all(packedmasks.count(mask) for mask in masks.values()), "a whole layer has vanished"
    bench.do_all(bench.register())
    assert not any(row.plan.lossless for row in bench.run.database.assignments(2))
    for row in bench.run.database.results(2):
        assert open_file(bench.path / row.file)["kept/0.weight"].dtype is DTYPES[wire_dtype]  # type: ignore[index]


def test_narrow_saliencies_are_refused(drive: Drive) -> None:
    bench = drive(tiny_experiment(**settings("ssfl"), rounds=3, wire_dtype="float16"))
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.entries[f"dense/{W}"] = answer.entries[f"dense/{W}"].half()
    reply = bench.submit(worker, answer)
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert reply.reason == f"dense/{W}: torch.float16 of shape [12, 6], expected torch.float32 of shape [12, 6]"


def test_a_measuring_round_that_an_older_version_has_opened_ends_as_it_began(drive: Drive) -> None:
    bench = drive(tiny_experiment(**settings("ssfl"), rounds=3, wire_dtype="bfloat16"))
    plan = pb.Plan(measure_saliency=True).SerializeToString()
    bench.run.database.select("UPDATE assignments SET plan = ?", plan)
    bench.restart()
    bench.do_all(bench.register())
    for row in bench.run.database.results(1):
        assert open_file(bench.path / row.file)[f"dense/{W}"].dtype is torch.bfloat16
    assert problems(bench.path) == []
    bench.commit()
    assert bench.run.shared_mask.density < 1


def test_ssfls_saliencies_are_neither_tickets_nor_a_model(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("ssfl"), server={"optimizer": "sgd"}, rounds=2)))
    assert bench.run.model_round == 0
    assert {(row.ticket, row.density) for row in bench.run.database.clients()} == {("", 1.0)}
    assert bench.files("results") == set()
    assert bench.files("models") == {"round-0000.safetensors"}
    play(bench)
    assert bench.files("models") == {"round-0000.safetensors", "round-0002.safetensors", "optimizer-0002.safetensors"}
    assert all(row.ticket for row in bench.run.database.clients())


# ---- One ticket


def test_one_tickets_mask_goes_over_the_output_layer_too_and_the_layer_is_each_clients_own(drive: Drive) -> None:
    """The mask is SSFL's, of saliencies that come from all layers; what the server's momentum moves is the rest."""
    changes = settings("one-ticket", target_density=0.4, personal=["2.*"])
    bench = play(drive(tiny_experiment(**changes, rounds=4)), 2)
    oracle = play(drive(tiny_experiment(**settings("ssfl", target_density=0.4), rounds=4), name="ssfl"))
    assert bench.run.shared_mask == oracle.run.shared_mask
    (kept,) = [
        unpack(mask, (3, 12))
        for name, mask in bench.run.load_masks(bench.run.shared_mask.digest).items()
        if name == "2.weight"
    ]
    assert 0 < int(kept.sum()) < kept.numel()
    heads = [ticket(bench, client)["2.weight"] for client in range(3)]
    for client, head in enumerate(heads):
        assert torch.equal(head != 0, kept)
        assert torch.equal(assigned(bench, client)["2.weight"], head)
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(model(bench)["2.weight"], torch.where(kept, model(bench, 0)["2.weight"], 0.0))


def test_one_tickets_server_steps_by_momentum_unless_it_is_told_otherwise() -> None:
    mine = {"strategy": {"name": "one-ticket"}}
    server = create_strategy(tiny_experiment(**mine)).server_optimizer()
    assert (server.optimizer, server.lr, server.momentum) == ("sgd", 0.5, 0.9)
    told = {"optimizer": "adam", "lr": 0.01}
    assert create_strategy(tiny_experiment(**mine, server=told)).server_optimizer() == ServerSettings(**told)


# ---- FedDST


def test_feddst_keeps_its_density_and_exchanges_weights(drive: Drive) -> None:
    changes = settings("feddst", readjust_every=2, readjust_rate=0.5, target_density=0.5)
    bench = drive(tiny_experiment(**changes, rounds=8, training={"epochs": 2}))
    digests, rates = [bench.run.shared_mask.digest], []
    while not bench.coordinator.is_final:
        rows = bench.run.database.assignments(bench.coordinator.round)
        rates.append(rows[0].plan.readjust.rate)
        play(bench)
        digests.append(bench.run.shared_mask.digest)
        assert {row.density for row in bench.run.database.clients()} == {0.5}
        masks = bench.run.load_masks(bench.run.shared_mask.digest)
        assert {name: packedmasks.count(mask) for name, mask in masks.items()} == {W: 36, "2.weight": 18}
    assert rates == [0, pytest.approx(0.25), 0, 0, 0, 0, 0, 0], "by a cosine that is 0 at half of the rounds"
    assert [a != b for a, b in pairwise(digests)] == [rate > 0 for rate in rates]


def test_feddsts_next_mask_is_of_the_largest_that_somebody_kept(drive: Drive) -> None:
    changes = settings("feddst", readjust_every=1, target_density=0.5)
    bench = drive(tiny_experiment(**changes, rounds=4, training={"epochs": 2}))
    shared = unpack(bench.run.load_masks(bench.run.shared_mask.digest)[W], (12, 6))
    bench.do_all(bench.register())
    total, weight = torch.zeros(12, 6, dtype=torch.float64), torch.zeros(12, 6)
    kept = []
    for row in bench.run.database.results(1):
        masks = bench.run.load_masks(row.mask)
        values = bench.run.wire.unpack(
            {k: t for k, t in open_file(bench.path / row.file).items() if not k.startswith("mask/")}, masks
        )
        kept.append(unpack(masks[W], (12, 6)))
        total += row.examples * values[W].double()
        weight += row.examples * kept[-1]
    assert any(not torch.equal(mask, shared) for mask in kept)
    mean = (total / weight.clamp(min=1)).float()
    bench.commit()
    new = unpack(bench.run.load_masks(bench.run.shared_mask.digest)[W], (12, 6))
    assert not bool((new & (weight == 0)).any()), "a weight that nobody kept came in by its initial value"
    assert mean.abs()[new].min() >= mean.abs()[~new].max()
    torch.testing.assert_close(model(bench)[W], torch.where(new, mean, 0.0))


@pytest.mark.parametrize("optimizer", ["none", "sgd", "adam"])
@pytest.mark.parametrize("name", ["ssfl", "feddst"])
def test_under_one_mask_the_model_is_exactly_0_off_it(drive: Drive, name: str, optimizer: str) -> None:
    """Whatever momentum would make of a weight that has left it, or of the first values of one that never was in it."""
    changes = settings(name, readjust_every=1)
    bench = drive(tiny_experiment(**changes, rounds=6, training={"epochs": 2}, server={"optimizer": optimizer}))
    for _ in range(6):
        play(bench)
        if bench.run.model_round:
            for each, packed in bench.run.load_masks(bench.run.shared_mask.digest).items():
                kept = unpack(packed, bench.run.table[each].shape)
                assert torch.equal(model(bench)[each] != 0, kept)


# ---- PruneFL


class Blind(TinyTask):
    """Its last input is always 0: the weights of it do nothing for the loss."""

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        for part in (data.train, data.validation, data.test):
            part.tensors[0][:, -1] = 0  # type: ignore[attr-defined]
        return data


def test_prunefl_brings_back_what_gradients_ask_for_and_never_what_does_nothing(drive: Drive) -> None:
    """Killed after the round of the one client, too."""
    changes = settings("prunefl", target_density=0.5, readjust_rate=0.6, readjust_every=1, options={"overhead": 100.0})
    bench = drive(tiny_experiment(**changes, rounds=4), Blind())
    assert [row.client for row in bench.run.database.assignments(1)] == [0]
    kept = []
    for _ in range(4):
        bench = play(bench.restart())
        masks = bench.run.load_masks(bench.run.shared_mask.digest)
        kept.append(torch.cat([unpack(masks[name], bench.run.table[name].shape).flatten() for name in masks]))
        bench.incarnation += 1
    blind = torch.zeros(12, 6, dtype=torch.bool)
    blind[:, -1] = True
    blind = torch.cat([blind.flatten(), torch.zeros(36, dtype=torch.bool)])
    assert [int(mask.sum()) for mask in kept] == [54] * 4
    assert all((new & ~old & ~blind).any() for old, new in pairwise(kept)), "nothing has come back"
    assert not any((new & ~old & blind).any() for old, new in pairwise(kept))
    assert [int((mask & blind).sum()) for mask in kept][-1] < 6, "half of them would be by chance"


# ---- FedRTS


@pytest.mark.parametrize(("strength", "is_sure"), [(1e6, True), (0.5, False)])
def test_fedrts_keeps_what_rounds_have_said_is_worth_its_place(drive: Drive, strength: float, is_sure: bool) -> None:
    """As far as it believes them; all rounds count, also those before a kill."""
    changes = settings("fedrts", target_density=0.5, readjust_every=2, options={"strength": strength})
    bench = drive(tiny_experiment(**changes, rounds=8))
    (first,) = {row.mask for row in bench.run.database.assignments(1)}
    play(play(bench).restart().restart())
    bench.incarnation += 1
    was, new = (bench.run.load_masks(digest) for digest in (first, bench.run.shared_mask.digest))
    values, sure = model(bench), []
    for spec in bench.run.table.model:
        if spec.prunable:
            alpha, beta = values[f"alpha:{spec.name}"], values[f"beta:{spec.name}"]
            looked_at = 1 + unpack(was[spec.name], spec.shape).float()
            torch.testing.assert_close(alpha + beta, 2 + strength * looked_at)
            kept, worth = unpack(new[spec.name], spec.shape), alpha / (alpha + beta)
            assert int(kept.sum()) == spec.numel // 2
            sure.append(bool(worth[kept].min() > worth[~kept].max() - 0.01))
    assert all(sure) == is_sure


# ---- FedTiny


def test_fedtiny_grows_what_gradients_ask_for_at_the_density_that_each_tensor_was_chosen_with(drive: Drive) -> None:
    """Without batch norms, killed between rounds; what does nothing for the loss never comes."""
    options = {"candidates": 3}
    changes = settings("fedtiny", target_density=0.5, readjust_every=1, readjust_rate=0.6, options=options)
    bench, kept = drive(tiny_experiment(**changes, rounds=10), Blind()), []
    for round_ in range(1, 6):
        bench = play(bench.restart())
        bench.incarnation += 1
        if round_ > 1:
            packed = bench.run.load_masks(bench.run.shared_mask.digest)
            kept.append({name: unpack(mask, bench.run.table[name].shape) for name, mask in packed.items()})
    counts = [{name: int(mask.sum()) for name, mask in masks.items()} for masks in kept]
    assert all(each == counts[0] for each in counts)
    assert sum(counts[0].values()) == 54
    come = [{name: new[name] & ~old[name] for name in old} for old, new in pairwise(kept)]
    assert [int(each[W].sum()) > 0 for each in come] == [True, True, False], (
        "by a cosine that is 0 at half of the rounds"
    )
    assert not any(each[W][:, -1].any() for each in come)


def test_fedtiny_leaves_what_it_chooses_of_as_it_is(drive: Drive) -> None:
    """Bit for bit, whatever it travels in, and whatever the server makes of a mean."""
    changes = settings("fedtiny", target_density=0.5, options={"candidates": 2})
    server = {"optimizer": "sgd", "lr": 0.5, "momentum": 0.9}
    bench = play(drive(tiny_experiment(**changes, rounds=3, wire_dtype="bfloat16", server=server)))
    first = {spec.name: model(bench, 0)[spec.name] for spec in bench.run.table.model}
    assert all(torch.equal(model(bench)[name], values) for name, values in first.items())
    masks = play(bench).run.load_masks(bench.run.shared_mask.digest)
    for name, values in first.items():
        kept = unpack(masks[name], values.shape) if name in masks else torch.ones_like(values, dtype=torch.bool)
        assert torch.equal(model(bench)[name], torch.where(kept, values, 0))
    assert "optimizer-0003.safetensors" in play(bench).files("models")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prunefl", {"initial_rounds": 1.5}, r"strategy\.options\.initial_rounds = 1\.5: expected a whole number"),
        (
            "prunefl",
            {"initial_client": 3},
            r"strategy\.options\.initial_client = 3: expected a (finite )?number of 0 to 2",
        ),
        ("prunefl", {"half_life": 0}, r"strategy\.options\.half_life = 0: expected a (finite )?number not below 1"),
        (
            "prunefl",
            {"overhead": "much"},
            r"strategy\.options\.overhead = 'much': expected a (finite )?number not below 0",
        ),
        (
            "prunefl",
            {"cost": 1},
            r"strategy\.options\.cost = 1: strategy\.name = 'prunefl' has no such option, expected initial_",
        ),
        ("fedrts", {"gamma": 1.5}, r"strategy\.options\.gamma = 1\.5: expected a (finite )?number of 0 to 1"),
        ("fedrts", {"strength": -1}, r"strategy\.options\.strength = -1: expected a (finite )?number not below 0"),
        ("fedtiny", {"candidates": 1}, r"strategy\.options\.candidates = 1: expected a (finite )?number of 2 to 1000"),
        ("fedtiny", {"candidates": 2.5}, r"strategy\.options\.candidates = 2\.5: expected a whole number"),
        ("fedtiny", {"noise": 2}, r"strategy\.options\.noise = 2: expected a (finite )?number of 0 to 1"),
        (
            "fedtiny",
            {"blocks": "0.*; fc.*"},
            r"strategy\.options\.blocks: 'fc\.\*' fits no tensor that is pruned: 0\.weight",
        ),
        ("fedrts", {"lambda": 1}, r"strategy\.options\.lambda = 1: strategy\.name = 'fedrts' has no such option"),
    ],
)
def test_options_are_checked(drive: Drive, name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        drive(tiny_experiment(**settings(name, options=options), rounds=3))


def test_fedtiny_wants_rounds_beyond_its_choice(drive: Drive) -> None:
    with pytest.raises(
        ExperimentError, match=r"rounds = 2: strategy\.name = 'fedtiny' chooses its mask in the first 2"
    ):
        drive(tiny_experiment(**settings("fedtiny"), rounds=2))


def test_prunefl_wants_rounds_beyond_its_one_clients() -> None:
    table = TensorTable.of(tiny_mlp())
    changes = settings("prunefl", options={"initial_rounds": 3})
    create_strategy(tiny_experiment(**changes, rounds=4)).check(table)
    with pytest.raises(
        ExperimentError, match=r"^rounds = 3: with strategy\.name = 'prunefl' .* alone in the first 3: expected more$"
    ):
        create_strategy(tiny_experiment(**changes, rounds=3)).check(table)
