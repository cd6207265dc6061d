"""Methods whose weights go with no round: what travels is masks or thresholds. Against their papers in plain torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.payload import plain_name
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.models.ticket import ticket_tensors
from lotteryfl.server.results.view import open_run
from tests.support.bench import TinyTask, simulated, tiny_experiment
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.normed_task import examples
from tests.support.papers import LR, SEED, STEPS, Model, Played, assert_close, copied, data, fresh, mean
from tests.support.runs import Coordinate, Write

MATRICES = ("0.weight", "3.weight", "5.weight")

# ---- FedPM, Algorithms 1 and 2


class Masked:
    """One client's round: FedPM's Algorithm 1 from `Local training` to the mask that goes up."""

    def __init__(self, round_: int, client: int, probability: Model, buffers: Model) -> None:
        seed = derive_seed(derive_seed(SEED, "training", round_, client), "local")
        self._generator = torch.Generator().manual_seed(seed)
        self._net = fresh()
        self._net.load_state_dict({**self._net.state_dict(), **buffers})
        self._weights = {name: self._net.get_parameter(name).detach().clone() for name in MATRICES}
        self.probability = probability

    def draw(self) -> Model:
        drawn = {name: torch.rand(each.shape, generator=self._generator) for name, each in self.probability.items()}
        return {name: (drawn[name] < each).float() for name, each in self.probability.items()}

    def train(self, inputs: Tensor, labels: Tensor) -> None:
        scores = {name: torch.log(each / (1 - each)) for name, each in clamped(self.probability).items()}
        self._net.train()
        for _ in range(STEPS):
            self.probability = {name: 1 / (1 + torch.exp(-each)) for name, each in scores.items()}
            used = {name: (self._weights[name] * mask).requires_grad_() for name, mask in self.draw().items()}
            F.cross_entropy(functional_call(self._net, used, (inputs,)), labels).backward()
            for name, p in self.probability.items():
                gradient = used[name].grad
                assert gradient is not None
                scores[name] -= LR * gradient * self._weights[name] * p * (1 - p)
        self.probability = {name: 1 / (1 + torch.exp(-each)) for name, each in scores.items()}

    @property
    def buffers(self) -> Model:
        return copied(dict(self._net.named_buffers()))


def clamped(probability: Model) -> Model:
    return {name: each.clamp(0.01, 0.99) for name, each in probability.items()}


@pytest.mark.parametrize(("options", "resets"), [({}, True), ({"reset_every": 2, "prior": 3}, False)], ids=str)
def test_fedpm(play: Callable[..., Played], options: Mapping[str, float], *, resets: bool) -> None:
    played = play({"name": "fedpm", "options": options})
    net, prior = fresh(), options.get("prior", 1)
    probability = {name: torch.full_like(net.get_parameter(name), 0.5) for name in MATRICES}
    buffers = copied(dict(net.named_buffers()))
    alpha, beta = ({name: torch.full_like(each, prior) for name, each in probability.items()} for _ in range(2))
    for round_ in (1, 2):
        if resets or round_ == 1:
            alpha, beta = ({name: torch.full_like(each, prior) for name, each in alpha.items()} for _ in range(2))
        masks, all_buffers = [], []
        for client in range(3):
            work = Masked(round_, client, probability, buffers)
            work.draw()  # by which it is measured before
            work.train(*data(played.run, client))
            masks.append(work.draw())
            all_buffers.append(work.buffers)
        for mask in masks:
            alpha = {name: alpha[name] + mask[name] for name in alpha}
            beta = {name: beta[name] + 1 - mask[name] for name in beta}
        probability = {name: (alpha[name] - 1) / (alpha[name] + beta[name] - 2) for name in alpha}
        averaged = mean(all_buffers, [examples(client) for client in range(3)])
        buffers = {name: averaged[name].to(buffers[name].dtype) for name in buffers}
    assert len(probability["0.weight"].unique()) == (4 if resets else 7), "as many as there are sums of masks"
    expected = {f"probability:{name}": each for name, each in probability.items()} | buffers
    counted = torch.tensor([3.0 if resets else 6.0])
    leaving_out = ["1.num_batches_tracked"]  # the client's of most examples
    assert_close(played.models[2], expected | {"counted": counted}, leaving_out=leaving_out)
    for client in range(3):
        assert played.sent[client].keys() == {f"mask:{name}" for name in MATRICES} | buffers.keys()
        for name in MATRICES:
            assert torch.equal(played.sent[client][f"mask:{name}"], masks[client][name].bool())


WIDE = """
import torch
from torch import nn


def model():
    return nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 3))


def client(k, experiment):
    generator = torch.Generator().manual_seed(k)
    inputs = torch.randn(40, 8, generator=generator)
    labels = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
    return tuple((inputs[part].numpy(), labels[part].numpy()) for part in (slice(20), slice(20, 30), slice(30, 40)))
"""
WEIGHTS = 8 * 256 + 256 * 256 + 256 * 3
HEADER = 600
"""Bytes of names, shapes and frames at most."""


@pytest.fixture
def wide(coordinate: Coordinate, write: Write, tmp_path: Path) -> Callable[..., CoordinatorThread]:
    """Serve two clients with a wide model."""

    def serve(strategy: str, rounds: int) -> CoordinatorThread:
        (tmp_path / "wide.py").write_text(WIDE)
        task = {"name": str(tmp_path / "wide.py")}
        experiment = {"rounds": rounds, "clients": 2, "clients_per_round": 2, "task": task}
        return coordinate(write(experiment, strategy={"name": strategy}, training={"epochs": 1, "lr": 1.0}))

    return serve


def test_fedpm_sends_no_weight_and_at_most_one_bit_a_parameter_up(wide: Callable[..., CoordinatorThread]) -> None:
    """In every round, the last one too; θ_0 goes down once, and a round's probabilities are no weights."""
    server = wide("fedpm", rounds=2)
    worker = HandWorker(server)
    while not (parts := worker.poll())[0].none.finished:
        done = worker.do(parts)
        messages = done.messages()
        assert set(done.entries) == {f"bits/mask:{number}.weight" for number in (0, 2, 4)}
        assert sum(message.ByteSize() for message in messages) <= WEIGHTS / 8 + HEADER
        down = parse(bytearray(b"".join(part.chunk for part in parts)), "payload")
        assert all(plain_name(key) == "counted" or ":" in key for key in down)
        assert worker.submit(messages).verdict == pb.SubmitReply.ACCEPTED
    assert server.ended() == ""
    with open_run(server.run.path) as view:
        traffic = view.assignments()
        assert len(traffic) == 6
        assert traffic["bytes_up"].max() <= WEIGHTS / 8 + HEADER
        assert traffic["bytes_down"].max() <= 4 * WEIGHTS + 2 * HEADER
    assert all(":" in name or name == "counted" for name in open_file(server.run.model_path(2)))


class OneRule(TinyTask):
    """All clients have the same rule, and thirty examples."""

    def client_data(self, client: int) -> ClientData:
        inputs = torch.randn(90, 6, generator=torch.Generator().manual_seed(client))
        parts = zip(inputs.split(30), inputs[:, :3].argmax(dim=1).split(30), strict=True)
        return ClientData(*(TensorDataset(*part) for part in parts))


def broad() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))


def test_fedpm_learns_and_changes_no_weight(tmp_path: Path) -> None:
    """A mask that is drawn by what was learned is better than that of the beginning, where each weight is tossed."""
    training = {"epochs": 10, "lr": 0.3, "batch_size": 30, "optimizer": "adam", "momentum": 0.0}
    experiment = tiny_experiment(
        rounds=3, clients=3, clients_per_round=3, training=training, strategy={"name": "fedpm"}
    )
    with simulated(tmp_path / "run", experiment, OneRule(broad)) as run:
        initial, ticket = open_file(run.model_path(0)), ticket_tensors(run, 0)
        assert all(torch.equal(initial[name], ticket[name]) for name in broad().state_dict())
    with open_run(tmp_path / "run") as view:
        found = view.metrics()
    accuracies = found[found["phase"] == "downloaded"].groupby("round")["accuracy"].mean()
    assert accuracies.loc[1] < 0.4
    assert accuracies.loc[4] > 0.65


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": {"options": {"reset_every": 1.5}}}, r"strategy\.options\.reset_every = 1\.5: expected a whole"),
        ({"strategy": {"options": {"prior": 0.5}}}, r"strategy\.options\.prior = 0\.5: expected"),
        ({"evaluation": {"global_every": 1}}, r"evaluation\.global_every = 1: with strategy\.name = 'fedpm' the model"),
    ],
)
def test_what_fedpm_cannot_do_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    settings = {"name": "fedpm", **changes.pop("strategy", {})}
    with pytest.raises(ExperimentError, match=message):
        simulated(tmp_path / "run", tiny_experiment(strategy=settings, **changes))


# ---- SpaFL, Algorithm 1


def magnitudes(weight: Tensor) -> Tensor:
    return torch.stack([row.abs().mean() for row in weight])


def follow(weight: Tensor, change: Tensor) -> Tensor:
    """A threshold that has fallen by n makes a row of n weights larger by 1 each, in the direction of their sum."""
    return torch.stack([row - change[i] / len(row) * row.sum().sign() for i, row in enumerate(weight)])


def train_spafl(net: nn.Module, thresholds: Model, sparsity: float, inputs: Tensor, labels: Tensor) -> int:
    """Train in place, by gradients as the paper writes them; return how many rows were pruned, over all steps."""
    net.train()
    pruned = 0
    for _ in range(STEPS):
        above = {name: magnitudes(net.get_parameter(name).detach()) > thresholds[name] for name in MATRICES}
        pruned += sum(int((~each).sum()) for each in above.values())
        used = {
            name: (net.get_parameter(name).detach() * above[name][:, None]).requires_grad_() for name in MATRICES
        }  # fmt: skip
        net.zero_grad()
        F.cross_entropy(functional_call(net, used, (inputs,)), labels).backward()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                gradient = used[name].grad if name in used else parameter.grad
                assert gradient is not None
                if name in MATRICES:
                    of_threshold = -(gradient * parameter).sum(dim=1) - sparsity * torch.exp(-thresholds[name])
                    thresholds[name] -= LR * of_threshold
                    gradient = gradient * above[name][:, None]
                parameter.sub_(LR * gradient)
    return pruned


def test_spafl(play: Callable[..., Played]) -> None:
    sparsity, pruned = 1.2, 0
    played = play({"name": "spafl", "options": {"sparsity": sparsity}})
    shared = {name: torch.zeros(len(fresh().get_parameter(name))) for name in MATRICES}
    clients = [(fresh(), shared)] * 3
    rows = sum(len(each) for each in shared.values())
    for _ in range(2):
        results, trained = [], []
        for client in range(3):
            net = fresh()
            net.load_state_dict(clients[client][0].state_dict())
            with torch.no_grad():
                for name in MATRICES:
                    weight = net.get_parameter(name)
                    weight.copy_(follow(weight, shared[name] - clients[client][1][name]))
            thresholds = {name: each.clone() for name, each in shared.items()}
            pruned += train_spafl(net, thresholds, sparsity, *data(played.run, client))
            results.append((net, shared))
            trained.append(thresholds)
        clients = results
        shared = {name: torch.stack([each[name] for each in trained]).mean(dim=0) for name in MATRICES}
    assert 0 < pruned < 2 * 3 * STEPS * rows, "some of all"
    initial = fresh().state_dict()
    zeros = {f"heard:{name}": torch.zeros_like(each) for name, each in shared.items()}
    expected = initial | {f"threshold:{name}": each for name, each in shared.items()} | zeros
    assert_close(played.models[2], expected)  # no client's weights are in it
    for client, (net, heard) in enumerate(clients):
        of_client = net.state_dict() | {f"heard:{name}": each for name, each in heard.items()}
        of_client |= {f"threshold:{name}": each for name, each in trained[client].items()}
        assert_close(played.sent[client], of_client)


def test_spafl_shares_a_value_for_each_row_and_nothing_else(wide: Callable[..., CoordinatorThread]) -> None:
    """What goes up beside it is a client's own, whose size is that of its model: it goes where its client goes."""
    server = wide("spafl", rounds=1)
    worker = HandWorker(server)
    while not (parts := worker.poll())[0].none.finished:
        done = worker.do(parts)
        own = {name for name in map(plain_name, done.entries) if not name.startswith("threshold:")}
        nbytes = {plain_name(key): tensor.nbytes for key, tensor in done.entries.items()}
        assert sum(size for name, size in nbytes.items() if name not in own) == 4 * (256 + 256 + 3)
        assert sum(nbytes[name] for name in own) == 4 * (WEIGHTS + 2 * (256 + 256 + 3))  # and biases
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    assert server.ended() == ""
    initial, model = open_file(server.run.model_path(0)), open_file(server.run.model_path(1))
    changed = {name for name, tensor in model.items() if not torch.equal(tensor, initial[name])}
    assert changed == {f"threshold:{number}.weight" for number in (0, 2, 4)}


def test_spafl_prunes_rows_by_what_it_is_told_that_they_cost(tmp_path: Path) -> None:
    """And the ticket is what its client was measured by: whole rows of it are 0, of others nothing is."""
    kept = {}
    for sparsity in (0.0, 0.005):
        experiment = tiny_experiment(
            clients=3, training={"epochs": 8, "lr": 0.1}, strategy={"name": "spafl", "options": {"sparsity": sparsity}}
        )
        with simulated(tmp_path / f"{sparsity}", experiment, OneRule(broad)) as run:
            tickets = [ticket_tensors(run, client)["0.weight"] for client in range(3)]
        with open_run(tmp_path / f"{sparsity}") as view:
            found = view.metrics()
        last = found[(found["phase"] == "personalised") & (found["round"] == 3)]
        assert last["accuracy"].mean() > 0.6
        rows = torch.cat([(ticket != 0).float().mean(dim=1) for ticket in tickets])
        assert set(rows.tolist()) <= {0.0, 1.0}
        kept[sparsity] = rows.mean().item()
    assert kept[0.0] > 0.9
    assert 0.1 < kept[0.005] < 0.5
