"""What a local algorithm is given beside its hooks: copies, trainings, gradients and draws of its own."""

from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn
from torch.utils.data import TensorDataset

from lotteryfl import LocalAlgorithm, Phase
from lotteryfl.common.randomness import derive_seed
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.client.local.locally import DATA, SEED, Followed, batches, by_hand, same, started, trained

W = "0.weight"


# ---- what the work gives


def test_a_copy_trains_by_the_recipe_under_the_masks_and_nothing_else_notices() -> None:
    class Personal(LocalAlgorithm):
        name = "personal"
        models: list[nn.Module]

        def phases(self) -> Iterable[Phase]:
            return (Phase(trains=("0.*",)),)

        def after_epoch(self, epoch: int) -> None:
            if epoch == 1:
                first, same_, other = (self.work.copy() for _ in range(3))
                self.work.train(first, epochs=1)
                self.work.train(same_, epochs=1)
                self.work.train(other, epochs=1, what="other draws")
                type(self).models = [self.work.copy(), first, same_, other]

        def personalised(self) -> nn.Module:
            return self.models[1]

    class Without(LocalAlgorithm):
        name = "without"

        def phases(self) -> Iterable[Phase]:
            return (Phase(trains=("0.*",)),)

    mask = torch.rand(12, 6, generator=torch.Generator().manual_seed(3)) < 0.5
    followed = Followed(Personal, masks={W: mask})
    assert same(followed.tensors, Followed(Without, masks={W: mask}).tensors)
    start, first, same_, other = ({n: t.detach() for n, t in m.state_dict().items()} for m in Personal.models)
    assert same(first, same_)
    assert not torch.equal(first[W], other[W])
    assert not torch.equal(first["2.weight"], start["2.weight"]), "a copy trains whole, whatever the phase"
    assert bool((first[W][~mask] == 0).all())
    assert followed.done.personalised is not None
    assert followed.done.personalised() is Personal.models[1]
    assert len(followed.progress) == 6 + 9


def test_towards_pulls_to_what_it_is_given() -> None:
    class Ditto(LocalAlgorithm):
        name = "ditto"

        def begin(self) -> None:
            own = self.work.copy()
            towards = {name: torch.zeros_like(each) for name, each in self.work.named_parameters().items()}
            self.work.train(own, steps=1, proximal=2.0, towards=towards)
            inputs, labels = batches(derive_seed(SEED, "local training: more"))[0]
            model, optimizer = by_hand()
            with torch.enable_grad():
                away = sum(each.square().sum() for each in model.parameters())
                (F.cross_entropy(model(inputs), labels) + away).backward()
            optimizer.step()
            assert all(
                torch.allclose(a, b, atol=1e-6) for a, b in zip(own.parameters(), model.parameters(), strict=True)
            )

    Followed(Ditto)


def test_gradients_are_of_all_examples_and_leave_those_of_a_step_alone() -> None:
    class Measuring(LocalAlgorithm):
        name = "measuring"

        def before_step(self, step: int) -> None:
            parameter = self.work.named_parameters()[W]
            before = parameter.grad
            found = self.work.gradients()
            assert parameter.grad is before
            model = started()
            model.load_state_dict(self.work.model.state_dict())
            assert isinstance(DATA.train, TensorDataset)
            inputs, labels = DATA.train.tensors
            with torch.enable_grad():
                F.cross_entropy(model(inputs), labels).backward()
            for name, each in model.named_parameters():
                assert each.grad is not None
                assert torch.allclose(found[name], each.grad, atol=1e-6)

    assert same(Followed(Measuring).tensors, trained(2))


def test_the_mean_loss_is_of_all_examples_and_of_any_model() -> None:
    class Measuring(LocalAlgorithm):
        name = "measuring"

        def after_step(self, step: int) -> None:
            del step
            other = self.work.copy()
            for parameter in other.parameters():
                parameter.mul_(2)
            assert isinstance(DATA.train, TensorDataset)
            inputs, labels = DATA.train.tensors
            for found, model in ((self.work.mean_loss(), self.work.model), (self.work.mean_loss(other), other)):
                assert found == pytest.approx(F.cross_entropy(model(inputs), labels).item(), rel=1e-5)

    assert same(Followed(Measuring).tensors, trained(2))


def test_the_generator_and_the_options_are_the_assignments() -> None:
    class Drawing(LocalAlgorithm):
        name = "drawing"
        drawn: list[float]

        def begin(self) -> None:
            type(self).drawn = torch.rand(3, generator=self.work.generator).tolist()
            assert (self.work.options, self.work.round, self.work.client) == ({"mu": 0.5}, 1, 2)
            assert (self.work.examples, self.work.lr, self.work.device.type) == (10, 0.125, "cpu")

    plan = pb.Plan(train=pb.Plan.Train(epochs=1, lr=0.125), local=pb.Plan.Local(options_json='{"mu": 0.5}'))
    Followed(Drawing, plan)
    first = Drawing.drawn
    followed = Followed(Drawing, plan)
    assert Drawing.drawn == first
    assert same(followed.tensors, trained(1, lr=0.125))
