"""What a plan says between download and upload: in which order, on which data, and what it leaves alone."""

from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.client.work.planrun import Done, PlanRun
from lotteryfl.client.work.stack import alone
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import apply_masks, make_permanent
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import CPU, TinyTask, tiny_experiment, tiny_mlp

W = "0.weight"
TRAINING: dict[str, Any] = {"lr": 0.2, "momentum": 0.5, "batch_size": 4}
SEED = 5


class Worked:
    """A model of seed 1, θ_0 of seed 0, and a plan done."""

    def __init__(self, plan: pb.Plan, *, density: float = 1.0, data: ClientData | None = None) -> None:
        torch.manual_seed(0)
        self.initial = named_tensors(tiny_mlp())
        self.data = data or TinyTask().client_data(2)
        self.model, self.start = started()
        self.table = TensorTable.of(self.model)
        self.before: dict[str, PackedMask] = {}
        if density < 1:
            keep = {s.name: torch.rand(s.shape) < density for s in self.table if s.prunable}
            self.before = {name: packedmasks.pack(mask) for name, mask in keep.items()}
            if not plan.owns_unkept:
                apply_masks(self.model, keep)
                make_permanent(self.model)
        self.steps = 0
        workplace = Workplace(self.model, self.table, tiny_experiment(training=TRAINING), self.initial, CPU)
        workplace.prune({} if plan.owns_unkept else self.before)
        assignment = pb.Assignment(assignment_id="r1-c2-a1", seed=SEED, plan=plan)
        following = PlanRun(workplace, assignment, self.data, self.before).follow()
        self.done: Done = alone(following, lambda wanted: wanted.alone(self._count))
        self.metrics = pb.ClientMetrics(validation=self.done.validation)

    def _count(self, epoch: int, step: int, loss: Tensor) -> None:
        self.steps += 1

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in named_tensors(self.model).items()}

    def kept(self, name: str = W) -> Tensor:
        shape = self.table[name].shape
        masks = self.done.masks
        return packedmasks.unpack(masks[name], shape) if name in masks else torch.ones(shape, dtype=torch.bool)


def started() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(1)
    model = tiny_mlp()
    return model, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(epochs: int, **options: Any) -> dict[str, Tensor]:
    """What plain training of the same model comes to."""
    model, _ = started()
    train(model, TinyTask().client_data(2).train, epochs=epochs, seed=SEED, **{**TRAINING, **options})
    return model.state_dict()


def prune(**more: Any) -> pb.Plan.Prune:
    return pb.Plan.Prune(**{"rate": 0.3, "target_density": 0.5, **more})


def plan(epochs: int = 2, **more: Any) -> pb.Plan:
    return pb.Plan(train=pb.Plan.Train(epochs=epochs), **more)


def test_a_pruning_before_training_judges_the_model_as_downloaded_one_after_it_as_trained() -> None:
    model, _ = started()
    validation = TinyTask().client_data(2).validation
    expected = {False: evaluate(model, validation).loss}
    model.load_state_dict(trained(2))
    expected[True] = evaluate(model, validation).loss
    for after in (False, True):
        assert Worked(plan(prune=prune(after_training=after))).metrics.validation.loss == expected[after]


def test_a_pruning_after_training_leaves_the_kept_weights_as_trained() -> None:
    worked = Worked(plan(prune=prune(after_training=True)))
    kept, values = worked.kept(), trained(2)
    assert 0 < int(kept.sum()) < 72
    assert torch.equal(worked.tensors[W] * kept, values[W] * kept)
    assert torch.equal(worked.tensors["0.bias"], values["0.bias"])


@pytest.mark.parametrize("rewind", [pb.Plan.INITIAL, pb.Plan.EVERYTHING])
def test_rewinding_takes_back_kept_weights_or_everything(rewind: Any) -> None:
    worked = Worked(plan(prune=prune(after_training=True), rewind=rewind))
    kept = worked.kept()
    assert torch.equal(worked.tensors[W] * kept, worked.initial[W] * kept)
    is_back = torch.equal(worked.tensors["0.bias"], worked.initial["0.bias"])
    assert is_back == (rewind == pb.Plan.EVERYTHING)


@pytest.mark.parametrize(("change", "pruned"), [(0.0, True), (1e-9, True), (1.0, False)])
def test_masks_of_the_first_and_the_last_epoch_are_compared_and_training_is_as_ever(
    change: float, pruned: bool
) -> None:
    worked = Worked(plan(3, prune=prune(after_training=True, min_mask_change=change)))
    kept, values = worked.kept(), trained(3)
    assert bool((~kept).any()) == pruned
    assert worked.metrics.HasField("validation") == pruned
    assert torch.equal(worked.tensors[W] * kept, values[W] * kept)


def test_one_epoch_cannot_differ_from_itself() -> None:
    assert Worked(plan(1, prune=prune(after_training=True, min_mask_change=1e-9))).kept().all()


# ---- the gate


def many_tests(count: int) -> ClientData:
    """Validation data that the model knows nothing of, and test examples."""
    generator = torch.Generator().manual_seed(3)
    inputs, labels = torch.randn(count, 6, generator=generator), torch.arange(count) % 3
    train, validation = TinyTask().client_data(2).train, TinyTask().client_data(2).validation
    return ClientData(train, validation, TensorDataset(inputs, labels))


@pytest.mark.parametrize(("count", "judged"), [(9, 9), (80, 80), (300, 80)])
def test_the_gate_of_the_official_code_is_up_to_80_test_examples_drawn_by_the_seed(count: int, judged: int) -> None:
    data = many_tests(count)
    worked = Worked(plan(prune=prune(gate_test_examples=80)), data=data)
    assert worked.metrics.validation.examples == judged
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(SEED, "gate")))[:80]
    inputs, labels = data.test.tensors  # type: ignore[attr-defined]
    expected = evaluate(started()[0], (inputs[order], labels[order]))
    assert worked.metrics.validation.accuracy == expected.accuracy
    assert worked.metrics.validation.loss == pytest.approx(expected.loss)


# ---- FedProx


def test_the_pull_is_towards_the_model_as_pruned_and_rewound() -> None:
    far, near = Worked(plan()), Worked(plan())
    pulled = Worked(pb.Plan(train=pb.Plan.Train(epochs=2, proximal=5.0)))
    assert torch.equal(far.tensors[W], near.tensors[W])
    assert (pulled.tensors[W] - pulled.start[W]).norm() < (far.tensors[W] - far.start[W]).norm() / 2
    assert torch.equal(pulled.tensors[W], trained(2, proximal=5.0)[W])


# ---- exchange


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_weights_are_exchanged_after_half_of_the_epochs(epochs: int) -> None:
    worked = Worked(plan(epochs, readjust=pb.Plan.Readjust(rate=0.5)), density=0.5)
    before = packedmasks.unpack(worked.before[W], (12, 6))
    after, values = worked.kept(), worked.tensors[W]
    count = int(before.sum())
    assert int(after.sum()) == count
    assert int((after & ~before).sum()) == round(0.5 * count)
    assert not values[~after].any()
    assert bool(values[after & ~before].any()) == (epochs > 1), "what has come had epochs to grow in, if there were any"
    assert worked.steps == epochs * 3  # of 10 examples, 4 at a time
    assert worked.done.trained.examples == 10


def test_or_after_all_of_them() -> None:
    """What stays has been trained as long as the plan says; what comes is 0."""
    worked = Worked(plan(5, readjust=pb.Plan.Readjust(rate=0.5, after_training=True)), density=0.5)
    unchanged = Worked(plan(5), density=0.5)
    before, after = packedmasks.unpack(worked.before[W], (12, 6)), worked.kept()
    assert int((after & ~before).sum()) == int((before & ~after).sum()) == round(0.5 * int(before.sum()))
    assert torch.equal(worked.tensors[W], unchanged.tensors[W] * (before & after))
    assert torch.equal(worked.tensors["0.bias"], unchanged.tensors["0.bias"])
    assert worked.steps == 5 * 3


def test_the_loss_told_is_of_the_last_epochs_after_an_exchange() -> None:
    whole = Worked(plan(2, readjust=pb.Plan.Readjust(rate=0.5)), density=0.5).done.trained.loss
    half = Worked(plan(1, readjust=pb.Plan.Readjust(rate=0.5)), density=0.5).done.trained.loss
    assert whole != half


# ---- own weights


def test_what_is_not_kept_is_trained_like_everything_else_where_it_is_the_clients_own() -> None:
    worked = Worked(plan(owns_unkept=True), density=0.5)
    assert torch.equal(worked.tensors[W], trained(2)[W])
    assert named_masks(worked.model) == {}
    assert worked.done.masks.keys() == worked.before.keys()
    assert all((worked.done.masks[name] == mask).all() for name, mask in worked.before.items())


def test_what_moved_most_becomes_the_clients_own() -> None:
    select = pb.Plan.Select(rate=0.2, limit=1.0)
    worked = Worked(plan(owns_unkept=True, select=select), density=0.5)
    shared = torch.cat([packedmasks.unpack(m, (worked.table[n].numel,)) for n, m in worked.before.items()])
    stays = torch.cat([packedmasks.unpack(m, (worked.table[n].numel,)) for n, m in worked.done.masks.items()])
    moved = torch.cat([(worked.tensors[name] - worked.start[name]).abs().flatten() for name in worked.before])
    assert int((shared & ~stays).sum()) == round(0.2 * 108)
    assert moved[shared & ~stays].min() >= moved[stays].max()


# ---- saliency


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_saliency_is_the_gradient_of_the_mean_loss_times_the_weight(density: float) -> None:
    worked = Worked(pb.Plan(measure_saliency=True), density=density)
    model, start = started()
    with torch.no_grad():
        for name, mask in worked.before.items():
            dict(model.named_parameters())[name].mul_(packedmasks.unpack(mask, worked.table[name].shape))
    inputs, labels = worked.data.train.tensors  # type: ignore[attr-defined]
    loss = F.cross_entropy(model(inputs), labels)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        if name.endswith("weight"):
            torch.testing.assert_close(worked.tensors[name], (gradient * parameter).detach().abs())
        else:
            assert torch.equal(worked.tensors[name], start[name])
    assert worked.done.trained.loss == pytest.approx(float(loss.detach()))
    assert (worked.done.trained.examples, worked.steps) == (10, 0)


def test_saliency_may_be_measured_on_a_few_examples_that_the_seed_draws() -> None:
    plan = pb.Plan(measure_saliency=True, saliency_examples=4)
    worked, again = Worked(plan), Worked(plan)
    assert worked.done.trained.examples == 4
    assert torch.equal(worked.tensors[W], again.tensors[W])
    inputs, labels = worked.data.train.tensors  # type: ignore[attr-defined]
    model, _ = started()
    weight = dict(model.named_parameters())[W]
    found = []
    for chosen in combinations(range(10), 4):
        loss = F.cross_entropy(model(inputs[[*chosen]]), labels[[*chosen]])
        (gradient,) = torch.autograd.grad(loss, weight)
        found.append(torch.allclose((gradient * weight).detach().abs(), worked.tensors[W]))
    assert sum(found) == 1
