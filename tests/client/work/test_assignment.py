"""One client's work in one round: the plan followed to the letter, and nothing left behind."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.client.leases import LeaseLostError
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.handover import Outcome
from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError, TaskError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import digest, named_masks, named_tensors
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_digest, unpack_mask_update
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import CPU, Tied, TinyTask, tiny_experiment, tiny_mlp

W = "0.weight"

TRAIN = pb.Plan.Train(epochs=1)
PRUNE = pb.Plan.Prune(rate=0.3, target_density=0.5, accuracy_threshold=0.0)


class Client:
    """A runner with θ_0 of seed 0, a model of seed 1 to hand out, and masks of half of the weights."""

    def __init__(self, task: TinyTask | None = None, wire_dtype: WireDtype = "float32", **training: Any) -> None:
        task = task or TinyTask()
        torch.manual_seed(0)
        self.initial = named_tensors(task.model())
        torch.manual_seed(1)
        self.model = named_tensors(task.model())
        self.table = TensorTable.of(task.model())
        self.wire = WireFormat(self.table, wire_dtype)
        self.masks: Masks = {
            spec.name: packedmasks.pack(torch.rand(spec.shape) < 0.5) for spec in self.table if spec.prunable
        }
        experiment = tiny_experiment(wire_dtype=wire_dtype, training={"lr": 0.1, "momentum": 0.9, **training})
        self.runner = AssignmentRunner(task, experiment, self.table, self.initial, CPU)

    def run(self, plan: pb.Plan, masks: Masks | None = None, client: int = 0, seed: int = 5, **more: Any) -> Outcome:
        masks = masks or {}
        assignment = pb.Assignment(assignment_id="r1-c0-a1", round=1, client=client, seed=seed, plan=plan)
        return self.runner.run(assignment, self.wire.pack(self.model, masks), masks, **more)

    def returned(self, outcome: Outcome) -> dict[str, Tensor]:
        values = {key: value for key, value in outcome.entries.items() if not key.startswith("mask/")}
        return self.wire.unpack(values, outcome.masks)


def kept(masks: Masks, table: TensorTable) -> dict[str, Tensor]:
    return {name: packedmasks.unpack(mask, table[name].shape) for name, mask in masks.items()}


STILL: dict[str, Any] = {"lr": 1e-38, "momentum": 0.0}  # trains by steps that change nothing in float32


@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_what_comes_back_is_what_a_coordinator_checks(wire_dtype: WireDtype) -> None:
    client = Client(wire_dtype=wire_dtype)
    for masks in ({}, client.masks):
        outcome = client.run(pb.Plan(prune=PRUNE, train=TRAIN), masks)
        assert outcome.examples == 8
        assert outcome.mask_digest == mask_digest(dict(outcome.masks))
        received = unpack_mask_update(client.table, outcome.entries, masks)
        assert mask_digest(received) == outcome.mask_digest
        client.wire.check(outcome.entries, received)


class Counting(nn.Module):
    """Puts a new tensor in its buffer's place whenever it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.uses: Tensor
        self.register_buffer("uses", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.uses = self.uses + 1
        output: Tensor = self.linear(inputs) * (1 + self.uses / 100)
        return output


def test_a_model_that_replaces_its_buffers_starts_from_what_was_sent() -> None:
    client = Client(TinyTask(Counting))
    first, again = (client.returned(client.run(pb.Plan(train=TRAIN))) for _ in range(2))
    assert digest(first) == digest(again)


class Remembering(nn.Module):
    """Keeps something of every batch that it is trained on, beside its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.steps = 0
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(6), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.seen = self.seen + inputs.detach().mean(0)
        output: Tensor = self.linear(inputs - self.seen) * (1 + self.steps)
        return output


def test_nothing_that_a_model_keeps_of_one_client_reaches_the_next() -> None:
    after_another, alone = Client(TinyTask(Remembering)), Client(TinyTask(Remembering))
    after_another.run(pb.Plan(train=TRAIN), client=0)
    found, expected = (each.run(pb.Plan(train=TRAIN), client=1) for each in (after_another, alone))
    assert digest(after_another.returned(found)) == digest(alone.returned(expected))


def test_a_mask_that_stayed_is_not_sent_again() -> None:
    client = Client()
    outcome = client.run(pb.Plan(train=TRAIN), client.masks)
    assert outcome.mask_digest == mask_digest(client.masks)
    assert not any(key.startswith("mask/") for key in outcome.entries)
    assert client.run(pb.Plan(train=TRAIN)).mask_digest == ""


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_pruned_entries_are_exactly_zero_and_the_mask_only_loses_bits(optimizer: str) -> None:
    client = Client(optimizer=optimizer, weight_decay=0.1, epochs=1)
    plan = pb.Plan(prune=PRUNE, train=pb.Plan.Train(epochs=4), rewind=pb.Plan.INITIAL)
    plan.prune.target_density = 0.1
    outcome = client.run(plan, client.masks)
    tensors = client.returned(outcome)
    for name, mask in kept(outcome.masks, client.table).items():
        before = kept(client.masks, client.table)[name]
        assert not (mask & ~before).any()
        assert mask.sum() < before.sum()
        assert torch.equal(tensors[name] != 0, mask)
    # Nothing of a mask is in the model that the next assignment finds, either.
    assert not named_masks(client.runner.new_workplace().model)


def test_a_mask_has_an_effect_on_what_the_model_says() -> None:
    client = Client()
    data = TinyTask().client_data(0).test
    model = tiny_mlp()
    for masks in ({}, client.masks):
        tensors = {name: tensor.clone() for name, tensor in client.model.items()}
        for name, mask in kept(masks, client.table).items():
            tensors[name] *= mask
        model.load_state_dict(tensors)
        downloaded = client.run(pb.Plan(train=TRAIN), masks).metrics.downloaded
        assert downloaded.loss == evaluate(model, data).loss
    assert downloaded.loss != client.run(pb.Plan(train=TRAIN)).metrics.downloaded.loss


@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_the_metrics_are_of_the_model_as_it_came_and_as_it_goes(wire_dtype: WireDtype) -> None:
    client, model, data = Client(wire_dtype=wire_dtype), tiny_mlp(), TinyTask().client_data(3)
    outcome = client.run(pb.Plan(prune=PRUNE, train=pb.Plan.Train(epochs=5)), client=3)
    metrics = outcome.metrics
    model.load_state_dict(client.wire.unpack(client.wire.pack(client.model, {}), {}))
    assert metrics.downloaded.loss == evaluate(model, data.test).loss  # before the pruning
    assert metrics.validation.loss == evaluate(model, data.validation).loss
    model.load_state_dict(client.returned(outcome))
    assert metrics.personalised.loss == evaluate(model, data.test).loss
    assert metrics.personalised.accuracy == evaluate(model, data.test).accuracy
    assert (metrics.downloaded.examples, metrics.validation.examples, outcome.examples) == (9, 6, 11)
    assert metrics.density == (108 - 32) / 108
    assert metrics.seconds > 0


def test_without_a_pruning_in_the_plan_nothing_is_validated_or_pruned() -> None:
    outcome = Client().run(pb.Plan(train=TRAIN, rewind=pb.Plan.INITIAL))
    assert not outcome.metrics.HasField("validation")
    assert outcome.metrics.density == 1
    assert outcome.masks == {}


def test_the_gate_is_the_validation_accuracy() -> None:
    client = Client()
    accuracy = client.run(pb.Plan(prune=PRUNE, train=TRAIN)).metrics.validation.accuracy
    for threshold, density in ((accuracy, 76 / 108), (accuracy + 1e-9, 1.0)):
        plan = pb.Plan(prune=PRUNE, train=TRAIN)
        plan.prune.accuracy_threshold = threshold
        assert client.run(plan).metrics.density == density


@pytest.mark.parametrize(("rewind", "source"), [(pb.Plan.INITIAL, "initial"), (pb.Plan.NONE, "model")])
def test_after_a_pruning_the_kept_weights_are_rewound_if_the_plan_says_so(rewind: Any, source: str) -> None:
    client = Client(**STILL)
    outcome = client.run(pb.Plan(prune=PRUNE, train=TRAIN, rewind=rewind), client.masks)
    tensors, expected = client.returned(outcome), getattr(client, source)
    for name, mask in kept(outcome.masks, client.table).items():
        assert torch.equal(tensors[name], torch.where(mask, expected[name], 0.0))
    assert torch.equal(tensors["0.bias"], client.model["0.bias"])  # what is not pruned is not rewound


def test_without_a_pruning_nothing_is_rewound() -> None:
    client = Client(**STILL)
    plan = pb.Plan(prune=PRUNE, train=TRAIN, rewind=pb.Plan.INITIAL)
    plan.prune.target_density = 1
    tensors = client.returned(client.run(plan))
    assert all(torch.equal(tensors[name], client.model[name]) for name in tensors)


def test_neither_the_initial_values_nor_the_payload_are_ever_written_to() -> None:
    client = Client()
    before = digest(client.initial), digest(client.model)
    for _ in range(2):
        client.run(pb.Plan(prune=PRUNE, train=TRAIN, rewind=pb.Plan.INITIAL), client.masks)
        client.run(pb.Plan(train=TRAIN))
    assert (digest(client.initial), digest(client.model)) == before


def test_the_same_assignment_gives_the_same_bits_whatever_was_done_before() -> None:
    plan = pb.Plan(prune=PRUNE, train=TRAIN, rewind=pb.Plan.INITIAL)
    fresh, used = Client(TinyTask(Tied)), Client(TinyTask(Tied))
    used.run(pb.Plan(train=TRAIN), client=3)
    used.run(plan, used.masks, client=2)
    torch.manual_seed(77)
    bits = [digest(dict(c.run(plan, client=1).entries)) for c in (fresh, used)]
    assert bits[0] == bits[1]
    assert digest(dict(fresh.run(plan, client=1, seed=6).entries)) != bits[0]
    assert digest(dict(fresh.run(plan, client=2).entries)) != bits[0]


def test_work_that_was_given_up_leaves_nothing() -> None:
    client = Client()
    expected = digest(dict(client.run(pb.Plan(train=TRAIN), client.masks).entries))

    def stop(epoch: int, step: int, loss: Tensor) -> None:
        raise LeaseLostError(f"epoch {epoch}, step {step}")

    with pytest.raises(LeaseLostError, match="epoch 1, step 1"):
        client.run(pb.Plan(prune=PRUNE, train=TRAIN), client.masks, on_step=stop)
    assert digest(dict(client.run(pb.Plan(train=TRAIN), client.masks).entries)) == expected


def test_tied_weights_travel_once_and_integer_buffers_survive() -> None:
    client = Client(TinyTask(Tied))
    tensors = client.returned(client.run(pb.Plan(prune=PRUNE, train=pb.Plan.Train(epochs=3))))
    assert "decoder.weight" not in tensors
    steps = tensors["norm.num_batches_tracked"]
    assert (steps.dtype, steps.item()) == (torch.int64, 6)
    assert not torch.equal(tensors["norm.running_mean"], client.model["norm.running_mean"])


@pytest.mark.parametrize("wire_dtype", ["bfloat16", "float16", "int8"])
def test_weights_that_cannot_travel_are_named(wire_dtype: WireDtype) -> None:
    client = Client(wire_dtype=wire_dtype, lr=1e38)
    with pytest.raises(PayloadError, match=rf"^kept/{W}: value \S+ at flat index \d+: {wire_dtype} carries finite"):
        client.run(pb.Plan(train=pb.Plan.Train(epochs=3)), client.masks)


class NoData(TinyTask):
    def client_data(self, client: int) -> ClientData:
        raise TaskError(f"client {client} holds no training examples")


def test_an_empty_client_is_named() -> None:
    with pytest.raises(TaskError, match="client 3 holds no training examples"):
        Client(NoData()).run(pb.Plan(train=TRAIN), client=3)


def spoilt(change: Callable[[dict[str, Tensor]], object]) -> None:
    client = Client()
    entries = client.wire.pack(client.model, client.masks)
    change(entries)
    assignment = pb.Assignment(assignment_id="r1-c0-a1", client=0, plan=pb.Plan(train=TRAIN))
    client.runner.run(assignment, entries, client.masks)


def test_a_payload_that_does_not_fit_is_named() -> None:
    with pytest.raises(PayloadError, match=r"dense/0\.bias: missing"):
        spoilt(lambda entries: entries.pop("dense/0.bias"))
    with pytest.raises(PayloadError, match=f"kept/{W}: value nan at flat index 2"):
        spoilt(lambda entries: entries[f"kept/{W}"].__setitem__(2, torch.nan))
    with pytest.raises(PayloadError, match=f"kept/{W}: torch.float32 of shape"):
        spoilt(lambda entries: entries.update({f"kept/{W}": torch.zeros(1)}))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 12)), nn.ReLU(), nn.Linear(12, 3))


def test_a_weight_norm_without_a_whole_row_is_measured_before_it_is_trained() -> None:
    client = Client(TinyTask(weight_normed))
    name = "0.parametrizations.weight.original1"
    mask = torch.ones(12, 6, dtype=torch.bool)
    mask[3] = False
    outcome = client.run(pb.Plan(train=TRAIN), {name: packedmasks.pack(mask)})
    assert math.isfinite(outcome.metrics.downloaded.loss)
    assert not client.returned(outcome)[name][3].any()


def test_a_kept_zero_without_a_gradient_comes_back_without_a_sign() -> None:
    client = Client(TinyTask(WithSpare))
    client.model["spare.weight"][:, ::2] = -0.0
    mask = torch.rand(3, 6) < 0.7
    returned = client.returned(client.run(pb.Plan(train=TRAIN), {"spare.weight": packedmasks.pack(mask)}))
    assert torch.equal(returned["spare.weight"], client.model["spare.weight"] * mask)
    assert not returned["spare.weight"].signbit()[returned["spare.weight"] == 0].any()


class WithSpare(nn.Module):
    """Has a layer that nothing goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.spare = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs)
        return output
