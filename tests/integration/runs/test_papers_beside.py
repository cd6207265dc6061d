"""Methods with more than one model against their papers: control variates, and models of the clients' own.

Each one's algorithm in plain torch, two rounds of three clients over gRPC, and what its own mechanism is for.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.score import Score
from tests.support.bench import Bench, TinyTask, tiny_experiment
from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, gradients, mean
from tests.support.playing import model

Drive = Callable[..., Bench]

COUNTER = "1.num_batches_tracked"
"""The client's of most examples, in a mean or not."""


def parameters(net: nn.Module) -> Model:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def rows(tensors: Model, what: str) -> Model:
    """Return what a strategy has of its own under a name, by the model's names."""
    return {name.partition(":")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{what}:")}


def of_model(tensors: Model) -> Model:
    return {name: tensor for name, tensor in tensors.items() if ":" not in name and name in fresh().state_dict()}


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
    assert_close(of_model(played.models[2]), x, leaving_out=[COUNTER])
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

    def optimum(self) -> Tensor:
        """Return the weights of least mean error over the clients."""
        problems = [self.problem(client) for client in range(3)]
        inputs, truth = (torch.cat(parts) for parts in zip(*problems, strict=True))
        return torch.linalg.lstsq(inputs, truth).solution.T


def test_scaffold_comes_to_the_optimum_that_fedavg_drifts_from(drive: Drive) -> None:
    """Ten local steps of full batches are far more than drift forgives; eight rounds are enough without it."""
    task, far = Drifting(), {}
    for name in ("fedavg", "scaffold"):
        experiment = tiny_experiment(
            rounds=8,
            clients=3,
            training={"epochs": 10, "batch_size": 99, "lr": 0.02, "momentum": 0.0},
            strategy={"name": name},
        )
        weights = model(drive(experiment, task, name).finish())["weight"]
        far[name] = float((weights - task.optimum()).norm())
    assert far["scaffold"] < 0.02 < 0.5 < far["fedavg"]
