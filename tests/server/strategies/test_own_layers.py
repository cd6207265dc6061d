"""Layers and units of a client's own: what FedBN, FedPer and HeteroFL are for has its effect, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.wire.layers import output_layer
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.support.widths import masks_of_width
from tests.support import normed_task
from tests.support.bench import Bench, Tied, TinyTask, create, simulated, tiny_experiment
from tests.support.damage import edit, problems
from tests.support.playing import model, play, settings, ticket

Drive = Callable[..., Bench]


class Skewed(TinyTask):
    """Clients that differ as `normed_task` has it: in the scale of their inputs, or in the numbers of the classes."""

    def __init__(self, *, inputs: bool = False, labels: bool = False) -> None:
        super().__init__(normed_task.model)
        self._inputs, self._labels = inputs, labels

    def client_data(self, client: int) -> ClientData:
        generator = torch.Generator().manual_seed(client)
        sets = []
        for size in (60, 20, 60):
            inputs = torch.randn(size, 6, generator=generator)
            labels = inputs[:, :3].argmax(dim=1)
            scaled = 5.0**client * inputs + 10 * client if self._inputs else inputs
            sets.append(torch.utils.data.TensorDataset(scaled, (labels + client) % 3 if self._labels else labels))
        return ClientData(*sets)


def accuracy(bench: Bench) -> float:
    """Mean over the clients, of the models as they were handed out for the last round."""
    bench.finish()
    results = bench.run.database.select("SELECT avg(accuracy) FROM metrics WHERE phase = 'downloaded' AND round = 9")
    return float(results.fetchone()[0])


@pytest.mark.parametrize(("name", "skew"), [("fedbn", {"inputs": True}), ("fedper", {"labels": True})])
def test_it_is_better_than_fedavg_where_clients_differ_as_it_says(
    drive: Drive, name: str, skew: dict[str, bool]
) -> None:
    """FedBN with inputs of other scales, FedPer with other classes of the same numbers."""
    changes: dict[str, Any] = {"rounds": 8, "training": {"epochs": 2, "batch_size": 10}}
    own = accuracy(drive(tiny_experiment(**settings(name), **changes), Skewed(**skew), name))
    shared = accuracy(drive(tiny_experiment(**settings("fedavg"), **changes), Skewed(**skew), "fedavg"))
    assert own > shared + 0.05


def test_fedbn_needs_norms_and_takes_others_that_it_is_told_of(drive: Drive) -> None:
    with pytest.raises(
        ExperimentError, match=r"'fedbn': task\.name = 'digits' has a model without batch norms, expected"
    ):
        drive(tiny_experiment(**settings("fedbn")))
    bench = play(drive(tiny_experiment(**settings("fedbn", personal=["head.bias"]), rounds=3), TinyTask(Tied)))
    own = bench.coordinator.strategy.personal(bench.run.table)
    assert own == {"head.bias", *(name for name in model(bench) if name.startswith("norm."))}
    assert all(torch.equal(model(bench)[name], model(bench, 0)[name]) for name in own)
    assert all(not torch.equal(ticket(bench, 0)[name], ticket(bench, 1)[name]) for name in ("norm.weight", "head.bias"))


class Resnet(nn.Module):
    """The names of its layers are in another order than they are."""

    def __init__(self, widths: tuple[int, int] = (8, 16), inputs: int = 3) -> None:
        super().__init__()
        first, second = widths
        self.stem = nn.Conv2d(inputs, first, 3, padding=1)
        self.norm = nn.BatchNorm2d(first)
        self.block = nn.Sequential(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.Conv2d(second, second, 1))
        self.across = nn.Conv2d(first, second, 1)
        self.deep = nn.Linear(16 * second, first)
        self.classes = nn.Linear(first, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        found = torch.relu(self.norm(self.stem(inputs)))
        found = torch.relu(self.block(found) + self.across(found))
        output: Tensor = self.classes(torch.relu(self.deep(found.flatten(start_dim=1))))
        return output


def test_the_output_layer_is_the_last_of_the_model_not_of_the_alphabet() -> None:
    table = TensorTable.of(Resnet())
    assert output_layer(table) == {"classes.weight", "classes.bias"}
    assert output_layer(TensorTable.from_json(table.to_json()).moving) == {"classes.weight", "classes.bias"}
    assert output_layer(TensorTable.of(nn.BatchNorm1d(3))) == frozenset()


@pytest.mark.parametrize("name", ["fedper", "fedrep", "fedbabu"])
@pytest.mark.parametrize("bias", [False, True])
def test_an_output_layer_that_is_tied_to_an_earlier_one_wants_a_name(name: str, bias: bool) -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=bias))
    net[2].weight = net[0].weight
    table = TensorTable.of(net)
    told: dict[str, Any] = {"options": {"head": "1.*"}} if name == "fedbabu" else {"personal": ["1.*"]}
    training = {"epochs": 2}
    create_strategy(tiny_experiment(**settings(name, **told), training=training)).check(table)
    with pytest.raises(ExperimentError, match=r"output layer: '2.weight' is tied to '0.weight'.* expected patterns"):
        create_strategy(tiny_experiment(**settings(name), training=training)).check(table)


def test_fedpers_layers_are_the_last_unless_it_is_told_others() -> None:
    table = TensorTable.of(Resnet())
    assert create_strategy(tiny_experiment(**settings("fedper"))).personal(table) == output_layer(table)
    told = create_strategy(tiny_experiment(**settings("fedper", personal=["deep.*", "classes.*"])))
    assert told.personal(table) == {*output_layer(table), "deep.weight", "deep.bias"}
    with pytest.raises(ExperimentError, match=r"strategy.personal = \(\): fedper needs patterns that fit some of"):
        create_strategy(tiny_experiment(**settings("fedper"))).personal(TensorTable.of(nn.Linear(2, 2)))


# ---- HeteroFL


@pytest.mark.parametrize("width", [0.5, 0.4, 0.1])
def test_a_model_under_a_widths_masks_computes_what_a_narrow_one_does(width: float) -> None:
    """Of convolutions, a way around them, and a linear layer of what was flattened; whatever the other units hold."""
    torch.manual_seed(1)
    wide = Resnet().eval()
    for values in (wide.norm.bias, wide.norm.get_buffer("running_mean")):
        nn.init.normal_(values)
    table = TensorTable.of(wide, "every-parameter")
    narrow = Resnet((-int(-width * 8 // 1), -int(-width * 16 // 1))).eval()
    with torch.no_grad():
        for name, packed in masks_of_width(table, width).items():
            wide.get_parameter(name).mul_(unpack(packed, table[name].shape))
        for name, small in narrow.state_dict().items():
            small.copy_(wide.state_dict()[name][tuple(map(slice, small.shape))])
    inputs = torch.randn(7, 3, 4, 4)
    torch.testing.assert_close(wide(inputs), narrow(inputs))
    kept = sum(int(parameter.count_nonzero()) for parameter in wide.parameters())
    assert kept == sum(parameter.numel() for parameter in narrow.parameters())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.Sequential(nn.Linear(6, 8), nn.Linear(16, 3)),
            r"'1.weight' of shape \[3, 16\]: expected 16 to be the units of a layer .*; they are 0.weight 8$",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=4), nn.Conv2d(8, 2, 1)),
            r"'1.weight' of shape \[8, 2, 1, 1\]: expected 2 to be the units",
        ),
        (nn.LayerNorm(3), "the model has no layer that can be pruned"),
        (
            nn.Sequential(nn.Linear(6, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 3)),
            r"'1.in_proj_weight' of shape \[24, 8\]: expected the weight of a linear layer or a convolution, whose ",
        ),
    ],
)
def test_what_no_layer_before_it_feeds_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        masks_of_width(TensorTable.of(net, "every-weight"), 0.5)


def test_positions_are_no_layer() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    masks_of_width(TensorTable.of(net, "every-parameter"), 0.5)
    net.register_parameter("positions", nn.Parameter(torch.ones(5, 6)))
    with pytest.raises(ExperimentError, match=r"'positions' of shape \[5, 6\]: .* name ends in '.weight'$"):
        masks_of_width(TensorTable.of(net, "every-parameter"), 0.5)


def test_such_a_run_is_not_set_up(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"strategy.name = 'heterofl': '1.weight' of shape"):
        create(tmp_path / "run", experiment(), TinyTask(lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(16, 3))))
    assert not (tmp_path / "run").exists()


def test_depthwise_convolutions_are_cut_by_their_rows_and_what_all_units_share_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    net.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    masks = masks_of_width(TensorTable.of(net, "every-parameter"), 0.5)
    assert unpack(masks["scale"], ()).item()
    assert unpack(masks["1.weight"], (8, 9)).all(dim=1).tolist() == [True] * 4 + [False] * 4


def experiment(**changes: Any) -> Experiment:
    return tiny_experiment(**{"rounds": 3, **settings("heterofl", widths=[1.0, 0.5]), **changes})


def test_clients_of_a_class_share_a_mask_and_those_of_the_whole_width_have_none(drive: Drive) -> None:
    bench = drive(experiment(clients=5))
    rows = bench.run.database.clients()
    assert [row.density for row in rows] == [1.0, 54 / 108, 1.0, 54 / 108, 1.0]
    assert len({row.mask for row in rows}) == 2
    assert len(bench.files("masks")) == 1
    play(bench, 3)
    assert [(row.mask, row.density) for row in bench.run.database.clients()] == [
        (row.mask, row.density) for row in rows
    ]


@pytest.mark.parametrize("prunable", ["matrices", "every-parameter"])
def test_a_narrow_client_leaves_what_it_lacks_as_it_is(drive: Drive, prunable: str) -> None:
    """Dense biases come back as they went out; prunable ones are not in its result."""
    bench = play(drive(experiment(strategy={"name": "heterofl", "widths": [1.0, 0.5], "prunable": prunable})))
    sent = [ticket(bench, client)["0.bias"] for client in range(3)]
    before, after = model(bench, 0)["0.bias"], model(bench)["0.bias"]
    assert not torch.equal(sent[2][6:], sent[0][6:])
    assert torch.equal(sent[1][6:], before[6:] if prunable == "matrices" else torch.zeros(6))
    weights = torch.tensor([8.0, 9.0, 10.0]) * torch.tensor([1, prunable == "matrices", 1])
    expected = torch.stack([values[6:] for values in sent]).T.double() @ (weights / weights.sum()).double()
    torch.testing.assert_close(after[6:].double(), expected, rtol=1e-5, atol=1e-7)


def test_verify_knows_what_clients_began_under(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", experiment()) as run:
        digest = run.database.client(1).mask
    assert problems(run.path) == []
    edit(run.path, "UPDATE assignments SET mask = '' WHERE client = 1 AND round = 1")
    assert problems(run.path) == [
        f"run.db: results: round 1, client 1: started from mask none, expected {digest[:12]!r} of its last result"
    ]
