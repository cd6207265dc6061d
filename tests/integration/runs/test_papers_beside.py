"""Methods with more than one model against their papers: control variates, and models of the clients' own.

Each one's algorithm in plain torch, two rounds of three clients over gRPC, and what its own mechanism is for.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.score import Score
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, gradients, mean, train
from tests.support.playing import model, ticket
from tests.support.playing import play as play_on

Drive = Callable[..., Bench]

COUNTER = "1.num_batches_tracked"
"""The client's of most examples, in a mean or not."""


def parameters(net: nn.Module) -> Model:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def examples(played: Played) -> list[float]:
    return [len(data(played.run, client)[1]) for client in range(3)]


def rows(tensors: Model, what: str) -> Model:
    """Return what a strategy has of its own under a name, by the model's names."""
    return {name.partition(":")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{what}:")}


def of(net: nn.Module, tensors: Model) -> Model:
    """Return those that are of the model, without a strategy's."""
    return {name: tensors[name] for name in net.state_dict()}


# ---- SCAFFOLD, Algorithm 1 with option II


def test_scaffold_with_a_client_that_sits_out(play: Callable[..., Played]) -> None:
    """Three of four clients take part, so c moves by three quarters of the variates' mean."""
    played = play({"name": "scaffold"}, clients=4)
    x = copied(fresh().state_dict())
    zero = {name: torch.zeros_like(value) for name, value in parameters(fresh()).items()}
    c, own = zero, [zero] * 4
    for round_ in (1, 2):
        sampled = [row.client for row in played.run.database.assignments(round_)]
        assert len(sampled) == 3
        results, moved = [], []
        for k in sampled:
            net = fresh()
            net.load_state_dict(x)
            for _ in range(STEPS):
                for name, gradient in gradients(net, *data(played.run, k)).items():
                    net.get_parameter(name).data.sub_(LR * (gradient - own[k][name] + c[name]))
            y = copied(net.state_dict())
            renewed = {name: own[k][name] - c[name] + (x[name] - y[name]) / (STEPS * LR) for name in c}
            moved.append({name: renewed[name] - own[k][name] for name in c})
            results.append(y)
            own[k] = renewed
        averaged = mean(results, [1, 1, 1])
        x = {name: averaged[name].to(value.dtype) for name, value in x.items()}
        c = {name: c[name] + 3 / 4 * mean(moved, [1, 1, 1])[name].float() for name in c}
    assert_close(of(fresh(), played.models[2]), x, leaving_out=[COUNTER])
    assert_close(rows(played.models[2], "c"), c)
    for k, sent in played.sent.items():
        assert_close(rows(sent, "c_k"), own[k])


class Squares(Objective):
    """Mean squared error, and nothing measured beside it."""

    def loss(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss: Tensor = F.mse_loss(outputs, batch[1])
        return loss


class Drifting(TinyTask):
    """Linear regression: clients with other truths, and with inputs of other directions that they know it of."""

    score = Score("loss", higher_is_better=False, own=True)

    def __init__(self) -> None:
        super().__init__(lambda: nn.Linear(2, 1, bias=False))
        self.objective = Squares()

    @staticmethod
    def problem(client: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(client)
        scales = torch.tensor([[3.0, 0.5], [0.5, 2.0], [1.0, 1.0]])[client]
        inputs = torch.randn(16, 2, generator=generator) * scales
        return inputs, inputs @ torch.tensor([[4.0 * client], [3.0 - 5 * client]])

    def client_data(self, client: int) -> ClientData:
        return ClientData(*[torch.utils.data.TensorDataset(*self.problem(client))] * 3)

    def optimum(self) -> Any:
        """Return the weights of least mean error over the clients."""
        problems = [self.problem(client) for client in range(3)]
        inputs, truth = (torch.cat(parts) for parts in zip(*problems, strict=True))
        return torch.linalg.lstsq(inputs, truth).solution.T


@pytest.mark.parametrize(("lr", "momentum"), [(0.02, 0.0), (0.01, 0.8)])
def test_scaffold_comes_to_the_optimum_that_fedavg_drifts_from(drive: Drive, lr: float, momentum: float) -> None:
    """Ten local steps of full batches are far more than drift forgives; eight rounds are enough without it."""
    task, far = Drifting(), {}
    for name in ("fedavg", "scaffold"):
        experiment = tiny_experiment(
            rounds=8,
            clients=3,
            training={"epochs": 10, "batch_size": 99, "lr": lr, "momentum": momentum},
            strategy={"name": name},
        )
        weights = model(drive(experiment, task, name).finish())["weight"]
        far[name] = float((weights - task.optimum()).norm())
    assert far["scaffold"] < 0.02 < 0.5 < far["fedavg"]


# ---- Ditto, Algorithm 1


def pulled(net: nn.Module, towards: Model, pull: float, inputs: Tensor, labels: Tensor) -> None:
    """Take the steps of gradient descent on F(v) + pull / 2 |v - w|^2."""
    for _ in range(STEPS):
        for name, gradient in gradients(net, inputs, labels).items():
            value = net.get_parameter(name).data
            value.sub_(LR * (gradient + pull * (value - towards[name])))


def test_ditto(play: Callable[..., Played]) -> None:
    pull = 0.7
    played = play({"name": "ditto", "options": {"lambda": pull}})
    shared, own = copied(fresh().state_dict()), [parameters(fresh())] * 3
    for _ in range(2):
        results, before = [], own
        own = []
        for k in range(3):
            net = fresh()
            net.load_state_dict({**shared, **before[k]})
            pulled(net, shared, pull, *data(played.run, k))
            own.append(parameters(net))
            net.load_state_dict(shared)
            results.append(train(net, *data(played.run, k)))
        averaged = mean(results, examples(played))
        shared = {name: averaged[name].to(value.dtype) for name, value in shared.items()}
    assert_close(of(fresh(), played.models[2]), shared, leaving_out=[COUNTER])
    for k in range(3):
        assert_close(rows(played.sent[k], "personal"), own[k])
        assert_close(of(fresh(), played.sent[k]), results[k])


def plain(name: str, **options: Any) -> Experiment:
    """Two rounds of three clients by plain steps, and the last one."""
    training = {"epochs": 3, "batch_size": 99, "lr": 0.1, "momentum": 0.0}
    return tiny_experiment(clients=3, training=training, strategy={"name": name, "options": options})


def test_dittos_lambda_is_how_near_a_clients_own_model_is_to_the_shared_one(drive: Drive) -> None:
    """From training alone to hardly a step away; the ticket is the client's own model."""
    away = []
    for pull in (0.0, 1.0, 4.0, 9.5):
        bench = drive(plain("ditto", **{"lambda": pull}), name=str(pull)).finish()
        found, shared = ticket(bench, 1), model(bench)
        assert_close(rows(found, "personal"), of(tiny_mlp(), found))
        away.append(distance(of(tiny_mlp(), found), shared))
        if not pull:
            alone = drive(plain("standalone")).finish()
            assert_close(of(tiny_mlp(), found), ticket(alone, 1))
    assert away == sorted(away, reverse=True)
    assert away[-1] < 0.2 * away[0]


def convolution() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (2, 3, 1)), nn.Conv2d(2, 4, (3, 1)), nn.Flatten(), nn.Linear(4, 3))


def test_dittos_own_model_is_kept_as_trained_where_training_moves_weights_to_another_format(drive: Drive) -> None:
    training = {"lr": 0.1, "channels_last": True}
    experiment = tiny_experiment(rounds=1, clients=3, training=training, strategy={"name": "ditto"})
    bench = drive(experiment, TinyTask(convolution))
    for _ in range(2):  # the last one, too
        play_on(bench)
        own = rows(ticket(bench, 1), "personal")
        assert all(not torch.equal(own[name], model(bench, 0)[name]) for name in own)
    assert_close(own, of(convolution(), ticket(bench, 1)))


def distance(one: Model, other: Model) -> float:
    return float(torch.cat([(one[name] - other[name]).flatten() for name in one]).norm())


# ---- APFL, Algorithm 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_apfl(play: Callable[..., Played], adaptive: bool) -> None:
    played = play({"name": "apfl", "options": {"alpha": 0.3, "adaptive": adaptive}})
    shared, own = copied(fresh().state_dict()), [parameters(fresh())] * 3
    alphas = [0.3] * 3
    for _ in range(2):
        results = []
        for k in range(3):
            inputs, labels = data(played.run, k)
            net, mixture = fresh(), fresh()
            net.load_state_dict(shared)
            mixture.load_state_dict(shared)
            v, a = dict(own[k]), alphas[k]
            for step in range(STEPS):
                w = parameters(net)
                mixture.load_state_dict({name: a * v[name] + (1 - a) * w[name] for name in v}, strict=False)
                of_mixture = gradients(mixture, inputs, labels)
                v = {name: v[name] - LR * a * of_mixture[name] for name in v}
                for name, gradient in gradients(net, inputs, labels).items():
                    net.get_parameter(name).data.sub_(LR * gradient)
                if adaptive and not step:
                    of_alpha = sum(float(((own[k][name] - w[name]) * of_mixture[name]).sum()) for name in v)
                    a = min(1.0, max(0.0, a - LR * of_alpha))
            own[k], alphas[k] = v, a
            results.append(copied(net.state_dict()))
        averaged = mean(results, examples(played))
        shared = {name: averaged[name].to(value.dtype) for name, value in shared.items()}
    assert_close(of(fresh(), played.models[2]), shared, leaving_out=[COUNTER])
    for k, sent in played.sent.items():
        assert_close(rows(sent, "personal"), own[k])
        assert float(sent["alpha"]) == pytest.approx(alphas[k], rel=1e-4)
        assert (alphas[k] != 0.3) == adaptive


def test_apfls_mixture_goes_from_the_shared_model_to_training_alone(drive: Drive) -> None:
    """At α = 0 a client's ticket is FedAvg's, at 1 its own alone, and the odd one out comes to a larger one."""
    for alpha, other in ((0.0, "fedavg"), (1.0, "standalone")):
        bench = drive(plain("apfl", alpha=alpha, adaptive=False), name=f"by {alpha}").finish()
        expected = ticket(drive(plain(other), name=other).finish(), 1)
        assert_close(of(tiny_mlp(), ticket(bench, 1)), expected)


class OneIsOdd(TinyTask):
    """Two clients agree on the classes, and the third has them by other numbers."""

    def client_data(self, client: int) -> ClientData:
        generator = torch.Generator().manual_seed(client)
        inputs = torch.randn(200, 6, generator=generator)
        labels = (inputs[:, :3].argmax(dim=1) + (client == 2)) % 3
        return ClientData(*[torch.utils.data.TensorDataset(inputs, labels)] * 3)


def test_apfls_alpha_is_largest_for_whom_the_shared_model_fits_least(drive: Drive) -> None:
    experiment = tiny_experiment(
        rounds=6,
        clients=3,
        training={"epochs": 5, "batch_size": 200, "lr": 0.3, "momentum": 0.0},
        strategy={"name": "apfl"},
    )
    bench = drive(experiment, OneIsOdd()).finish()
    alphas = [float(ticket(bench, client)["alpha"]) for client in range(3)]
    assert alphas[2] > 0.75 > max(alphas[:2])


# ---- FedALA, Algorithm 1

TOP = ("5.weight", "5.bias")


def weighed(shared: Model, last: Model, weights: Model) -> Model:
    """Equation 3: the lower layers are the shared ones."""
    return {**shared, **{name: last[name] + (shared[name] - last[name]) * weights[name] for name in TOP}}


def test_fedala(play: Callable[..., Played]) -> None:
    eta, start_epochs = 2.0, 4
    played = play({"name": "fedala", "options": {"eta": eta, "start_epochs": start_epochs}})
    shared, last = copied(fresh().state_dict()), [dict[str, Tensor]()] * 3
    weights = {name: torch.ones_like(shared[name]) for name in TOP}
    learned = [weights] * 3
    for round_ in (1, 2):
        results = []
        for k in range(3):
            net, start = fresh(), shared
            if round_ == 2:
                for _ in range(start_epochs):
                    net.load_state_dict(weighed(shared, last[k], learned[k]))
                    found = gradients(net, *data(played.run, k))
                    learned[k] = {
                        name: (weight - eta * found[name] * (shared[name] - last[k][name])).clamp(0, 1)
                        for name, weight in learned[k].items()
                    }
                start = weighed(shared, last[k], learned[k])
            net.load_state_dict(start)
            results.append(train(net, *data(played.run, k)))
        last = results
        averaged = mean(results, examples(played))
        shared = {name: averaged[name].to(value.dtype) for name, value in shared.items()}
    assert_close(of(fresh(), played.models[2]), shared, leaving_out=[COUNTER])
    for k, sent in played.sent.items():
        assert_close(of(fresh(), sent), last[k])
        for place, name in enumerate(TOP):
            torch.testing.assert_close(sent[f"last.{place}"], last[k][name], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(sent[f"weight.{place}"], learned[k][name], rtol=1e-4, atol=1e-6)
        assert (learned[k]["5.weight"] < 1).any(), "no test of it"


def test_fedala_takes_the_less_of_the_shared_top_the_less_it_fits(drive: Drive) -> None:
    """Whose classes have other numbers takes least; without steps of the weights all is taken, as in FedAvg."""
    training = {"epochs": 3, "batch_size": 200, "lr": 0.3, "momentum": 0.0}

    def play(name: str, **options: float) -> Bench:
        strategy = {"name": name, "options": options}
        experiment = tiny_experiment(rounds=4, clients=3, training=training, strategy=strategy)
        return drive(experiment, OneIsOdd(), f"{name} {options}").finish()

    bench = play("fedala", layers=2, eta=20)
    taken = [float(ticket(bench, client)["weight.2"].mean()) for client in range(3)]
    assert taken[2] < 0.65 < min(taken[:2])
    still = play("fedala", eta=0)
    assert_close(of(tiny_mlp(), model(still)), model(play("fedavg")))
