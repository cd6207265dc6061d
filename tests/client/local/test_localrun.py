"""What a local algorithm does to a training: where its hooks are called, with what, and what they may not do."""

import shutil
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from lotteryfl import LocalAlgorithm, Phase
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.loop import train
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.client.local.locally import DATA, SEED, TRAINING, Followed, batches, by_hand, fresh, same, started, trained
from tests.support.own_methods import NearTheStart

W = "0.weight"


class Nothing(LocalAlgorithm):
    name = "nothing"


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 2}, {"ema": 0.5}, {"precision": "bfloat16"}, {"clip_grad_norm": 0.5, "optimizer": "NAdam"}],
    ids=str,
)
def test_without_hooks_and_with_hooks_that_do_nothing_the_bits_are_those_of_any_training(
    options: dict[str, Any],
) -> None:
    class Idle(LocalAlgorithm):
        name = "idle"

        def loss(self, model: Any, batch: Any, loss_of: Any) -> Tensor:
            loss: Tensor = loss_of(model, batch)
            return loss

        def before_step(self, step: int) -> None:
            del step

        def after_step(self, step: int) -> None:
            del step

        def after_epoch(self, epoch: int) -> None:
            del epoch

    recipe = {**TRAINING, **options}
    if "optimizer" in options:
        del recipe["momentum"]
    model = started()
    train(model, DATA.train, recipe={**recipe, "epochs": 2}, seed=SEED)
    for algorithm in (Nothing, Idle):
        assert same(Followed(algorithm, **options).tensors, dict(model.state_dict())), algorithm


def test_a_loss_of_ones_own_that_pulls_to_the_start_is_the_proximal_term() -> None:
    local = pb.Plan.Local(name="near", options_json='{"mu": 0.5}')
    plan = pb.Plan(train=pb.Plan.Train(epochs=2), local=local)
    found, expected = Followed(NearTheStart, plan).tensors, trained(2, proximal=0.5)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert not torch.allclose(found[W], trained(2)[W], atol=1e-6)


class Counting(LocalAlgorithm):
    """Notes what is called, and doubles gradients."""

    name = "counting"
    seen: list[str]

    def begin(self) -> None:
        type(self).seen = ["begin"]

    def before_step(self, step: int) -> None:
        self.seen.append(f"step {step}")
        for each in self.work.named_parameters().values():
            if each.grad is not None:
                each.grad.mul_(2)

    def after_step(self, step: int) -> None:
        self.seen.append(f"stepped {step}")

    def after_epoch(self, epoch: int) -> None:
        self.seen.append(f"epoch {epoch}")

    def end(self) -> None:
        self.seen.append("end")


def test_hooks_are_called_in_their_order_and_gradients_may_be_changed() -> None:
    found = Followed(Counting, pb.Plan(train=pb.Plan.Train(epochs=1))).tensors
    steps = [text for number in (1, 2, 3) for text in (f"step {number}", f"stepped {number}")]
    assert Counting.seen == ["begin", *steps, "epoch 1", "end"]
    model, optimizer = by_hand()
    for inputs, labels in batches(SEED):
        optimizer.zero_grad()
        (2 * F.cross_entropy(model(inputs), labels)).backward()
        optimizer.step()
    assert all(torch.allclose(found[name], tensor) for name, tensor in model.state_dict().items())


# ---- phases


class HeadThenBody(LocalAlgorithm):
    name = "head-then-body"

    def phases(self) -> Iterable[Phase]:
        return (Phase(trains=("2.*",)), Phase(trains=("0.*",)))


def test_phases_train_their_own_parameters_with_fresh_momentum_and_an_order_of_their_own() -> None:
    """Against plain torch, with momentum and weight decay, which would move what is only without a gradient."""
    followed = Followed(HeadThenBody, pb.Plan(train=pb.Plan.Train(epochs=2)))
    model = started()
    for prefix, seed in (("2.", SEED), ("0.", derive_seed(SEED, "after", 1))):
        chosen = [each for name, each in model.named_parameters() if name.startswith(prefix)]
        others = [each.detach().clone() for each in model.parameters() if not any(each is own for own in chosen)]
        optimizer = fresh(chosen)
        for inputs, labels in batches(seed):
            model.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        left = [each for each in model.parameters() if not any(each is own for own in chosen)]
        assert all(map(torch.equal, others, left))
    assert same(followed.tensors, dict(model.state_dict()))
    assert followed.progress == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert followed.done.trained.steps == 6
    assert all(each.requires_grad for each in followed.workplace.model.parameters())


def test_what_does_not_train_keeps_its_bits() -> None:
    class HeadOnly(LocalAlgorithm):
        name = "head-only"

        def phases(self) -> Iterable[Phase]:
            return (Phase(trains=("2.*",), steps=5),)

    followed = Followed(HeadOnly)
    assert len(followed.progress) == 5
    for name, tensor in followed.tensors.items():
        assert torch.equal(tensor, followed.start[name]) == name.startswith("0.")


def test_schedules_over_steps_go_on_from_phase_to_phase() -> None:
    """A cosine of two phases of everything with no momentum is that of one training, but for the order."""

    class Twice(LocalAlgorithm):
        name = "twice"
        rates: list[float]

        def phases(self) -> Iterable[Phase]:
            return (Phase(epochs=1), Phase(epochs=2))

    followed = Followed(Twice, momentum=0.0, local_schedule={"kind": "step", "every": 1, "gamma": 1e-30})
    assert [len(batches(SEED)), len(followed.progress)] == [3, 9]
    model, optimizer = by_hand()
    optimizer.param_groups[0]["momentum"] = 0.0
    inputs, labels = batches(SEED)[0]
    F.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    assert all(torch.allclose(followed.tensors[name], tensor) for name, tensor in model.state_dict().items())


def test_the_pull_of_a_plan_is_to_the_model_as_downloaded_in_every_phase() -> None:
    """The second phase trains what the first did: pulled to its own beginning it would go elsewhere."""

    class Twice(LocalAlgorithm):
        name = "twice"

        def phases(self) -> Iterable[Phase]:
            return (Phase(), Phase())

    followed = Followed(Twice, pb.Plan(train=pb.Plan.Train(epochs=2, proximal=0.5)), momentum=0.0)
    model = started()
    start = [each.detach().clone() for each in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=TRAINING["lr"], weight_decay=TRAINING["weight_decay"])
    for inputs, labels in (*batches(SEED), *batches(derive_seed(SEED, "after", 1))):
        optimizer.zero_grad()
        away = sum((each - origin).square().sum() for each, origin in zip(model.parameters(), start, strict=True))
        (F.cross_entropy(model(inputs), labels) + 0.25 * away).backward()
        optimizer.step()
    assert all(torch.allclose(followed.tensors[name], t, atol=1e-6) for name, t in model.state_dict().items())


def test_a_strategys_tensor_trains_beside_the_model_and_is_written_in_place() -> None:
    class Scaled(LocalAlgorithm):
        name = "scaled"

        def phases(self) -> Iterable[Phase]:
            return (Phase(trains=(), tensors=("scale",), epochs=1),)

        def loss(self, model: Any, batch: Any, loss_of: Any) -> Tensor:
            scale = self.work.tensors["scale"]
            loss: Tensor = loss_of(lambda inputs: model(inputs) * scale, batch)
            return loss

    scale = torch.ones(())
    followed = Followed(Scaled, tensors={"scale": scale, "other": torch.ones(2)})
    assert same(followed.tensors, followed.start)
    assert not scale.requires_grad
    model, expected = started(), torch.ones((), requires_grad=True)
    optimizer = fresh([expected])
    for inputs, labels in batches(SEED):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs) * expected, labels).backward()
        optimizer.step()
    assert torch.equal(scale, expected.detach())
    assert scale != 1


# ---- pruned models


def test_what_is_pruned_stays_0_whatever_a_hook_writes_there() -> None:
    class Writing(LocalAlgorithm):
        name = "writing"

        def begin(self) -> None:
            self._fill()

        def before_step(self, step: int) -> None:
            assert bool((self.work.named_parameters()[W][~self.work.masks[W]] == 0).all())

        def end(self) -> None:
            self._fill()

        def _fill(self) -> None:
            self.work.named_parameters()[W].add_(1)

    mask = torch.rand(12, 6, generator=torch.Generator().manual_seed(3)) < 0.5
    followed = Followed(Writing, masks={W: mask})
    assert bool((followed.tensors[W][~mask] == 0).all())
    assert bool((followed.tensors[W][mask] != 0).all())


@pytest.mark.parametrize("after", [False, True])
def test_pruning_keeps_its_place(after: bool) -> None:
    """Before `begin`, or after `end`."""

    class Looking(LocalAlgorithm):
        name = "looking"
        seen: list[int]

        def begin(self) -> None:
            type(self).seen = [len(self.work.masks)]

        def end(self) -> None:
            self.seen.append(len(self.work.masks))

    prune = pb.Plan.Prune(rate=0.3, target_density=0.5, after_training=after)
    followed = Followed(Looking, pb.Plan(train=pb.Plan.Train(epochs=1), prune=prune))
    assert Looking.seen == ([0, 0] if after else [2, 2])
    assert len(followed.done.masks) == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles by g++")
def test_compiled_models_have_hooks_and_phases_too() -> None:
    class Doubling(LocalAlgorithm):
        name = "doubling"
        model = ""

        def phases(self) -> Iterable[Phase]:
            return (Phase(trains=("2.*",)), Phase())

        def loss(self, model: Any, batch: Any, loss_of: Any) -> Tensor:
            type(self).model = type(model).__name__
            loss: Tensor = loss_of(lambda inputs: 2 * model(inputs), batch)
            return loss

    usual, compiled = Followed(Doubling).tensors, Followed(Doubling, compile=True).tensors
    assert Doubling.model == "OptimizedModule"
    assert all(torch.allclose(usual[name], compiled[name], atol=1e-6) for name in usual)
