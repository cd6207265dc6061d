"""A ticket on its own: a plain state dict that any reader opens and the plain model loads, strictly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.pruning.prune import get_prune_params
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.server.models.ticket import ticket_tensors
from lotteryfl.server.results.ticket import Form, export_global, export_ticket
from lotteryfl.server.results.verify import verify
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import client_summaries
from tests.support.bench import Bench, Tied, TinyTask, simulated, tiny_experiment
from tests.support.tensorfiles import header

Drive = Callable[..., Bench]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return simulated(tmp_path_factory.mktemp("export") / "run", tiny_experiment(rounds=4), TinyTask(Tied))


def load(path: Path) -> Tied:
    model = Tied()
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return model


def test_a_ticket_loads_into_the_plain_model_and_does_what_the_table_says(run: RunDirectory, tmp_path: Path) -> None:
    summaries = client_summaries(run.database, 5)
    for summary in summaries:
        export_ticket(run, summary.client, tmp_path / "ticket.safetensors")
        model = load(tmp_path / "ticket.safetensors")
        params, total = get_prune_params(model)
        kept = sum(int(getattr(module, name).count_nonzero()) for module, name in params)
        assert kept / total == summary.density
        assert model.decoder.weight is model.encoder.weight
        assert model.state_dict()["norm.num_batches_tracked"] > 0
        scores = evaluate(model, TinyTask().client_data(summary.client).test)
        assert scores.accuracy == summary.score_personalised
    assert {summary.density for summary in summaries} == {27 / 54}


def test_an_int8_ticket_is_written_in_the_models_own_dtype(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=4, wire_dtype="int8"), TinyTask(Tied)) as run:
        for summary in client_summaries(run.database, 5):
            row = run.database.clients()[summary.client]
            export_ticket(run, summary.client, tmp_path / "ticket.safetensors")
            model = load(tmp_path / "ticket.safetensors")
            scores = evaluate(model, TinyTask().client_data(summary.client).test)
            assert scores.accuracy == summary.score_personalised
            result = safetensors.numpy.load_file(run.path / row.ticket)
            expected = np.zeros(18, np.float32)
            kept = np.unpackbits(run.load_masks(row.mask)["head.weight"], count=18, bitorder="little").astype(bool)
            expected[kept] = result["kept/head.weight"] * result["scale/head.weight"]
            assert np.array_equal(model.head.weight.detach().numpy().reshape(-1), expected)


def test_its_names_are_those_of_the_plain_state_dict(run: RunDirectory, tmp_path: Path) -> None:
    export_ticket(run, 0, tmp_path / "ticket.safetensors")
    assert safetensors.torch.load_file(tmp_path / "ticket.safetensors").keys() == Tied().state_dict().keys()


def test_who_never_took_part_has_the_global_model(tmp_path: Path, drive: Drive) -> None:
    bench = drive()
    export_ticket(bench.run, 3, tmp_path / "ticket.safetensors")
    initial = safetensors.torch.load_file(bench.path / "models/round-0000.safetensors")
    exported = safetensors.torch.load_file(tmp_path / "ticket.safetensors")
    assert all(torch.equal(initial[name], exported[name]) for name in initial)
    bench.do_all(bench.register())
    bench.commit()
    (idle,) = [row.client for row in bench.run.database.clients() if not row.ticket]
    export_ticket(bench.run, idle, tmp_path / "ticket.safetensors")
    shared = safetensors.torch.load_file(bench.path / "models/round-0001.safetensors")
    exported = safetensors.torch.load_file(tmp_path / "ticket.safetensors")
    assert all(torch.equal(shared[name], exported[name]) for name in shared)


def test_a_result_of_the_open_round_is_no_ticket_yet(tmp_path: Path, drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    work = bench.take(worker)
    bench.submit(worker, bench.do(work))
    export_ticket(bench.run, work.assignment.client, tmp_path / "ticket.safetensors")
    initial = safetensors.torch.load_file(bench.path / "models/round-0000.safetensors")
    exported = safetensors.torch.load_file(tmp_path / "ticket.safetensors")
    assert torch.equal(initial["0.weight"], exported["0.weight"])


@pytest.mark.parametrize("client", [-1, 4, 10**9])
def test_an_unknown_client_is_named(run: RunDirectory, tmp_path: Path, client: int) -> None:
    with pytest.raises(LotteryFLError, match=f"^client {client}: the run's clients are 0 to 3"):
        export_ticket(run, client, tmp_path / "ticket.safetensors")


def test_a_place_that_cannot_be_written_is_named(run: RunDirectory, tmp_path: Path) -> None:
    for out in (tmp_path / "nowhere" / "ticket.safetensors", tmp_path):
        with pytest.raises(LotteryFLError, match=f"--out {out}: cannot be written"):
            export_ticket(run, 0, out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_a_ticket_holds_the_weights_that_are_the_clients_own(tmp_path: Path, wire_dtype: str) -> None:
    experiment = tiny_experiment(strategy={"name": "fedselect", "personal_rate": 0.2}, wire_dtype=wire_dtype)
    with simulated(tmp_path / "run", experiment, TinyTask(Tied)) as run:
        for summary in client_summaries(run.database, 3):
            export_ticket(run, summary.client, tmp_path / "ticket.safetensors")
            model = load(tmp_path / "ticket.safetensors")
            for name, mask in run.load_masks(run.database.clients()[summary.client].mask).items():
                own = model.get_parameter(name)[~packedmasks.unpack(mask, run.table[name].shape)]
                assert own.numel() > 0
                assert own.all()
            scores = evaluate(model, TinyTask().client_data(summary.client).test)
            assert scores.accuracy == summary.score_personalised


@pytest.mark.parametrize("strategy", ["ssfl", "feddst"])
def test_who_never_took_part_has_the_global_model_under_the_mask_of_all(
    tmp_path: Path, drive: Drive, strategy: str
) -> None:
    bench = drive(tiny_experiment(rounds=1, strategy={"name": strategy, "target_density": 0.25}))
    for _ in range(2):
        export_ticket(bench.run, 3, tmp_path / "ticket.safetensors")
        exported = safetensors.torch.load_file(tmp_path / "ticket.safetensors")
        masks = bench.run.load_masks(bench.run.shared_mask.digest)
        kept = {name: torch.from_numpy(np.unpackbits(mask, bitorder="little")) for name, mask in masks.items()}
        for name, bits in kept.items():
            values = exported[name].flatten()
            assert torch.equal(values != 0, bits[: values.numel()].bool())
        assert sum(int(bits.sum()) for bits in kept.values()) == (27 if kept else 0)
        bench.do_all(bench.register())
        bench.commit()
    assert masks


class Extra(nn.Module):
    """Keeps something beside its tensors, and has a buffer that is not in its state dict."""

    kept: Any = torch.tensor([3, 4])

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.found: Any = None
        self.register_buffer("scratch", torch.zeros(6), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs)
        return output

    def get_extra_state(self) -> Any:
        return self.kept

    def set_extra_state(self, state: Any) -> None:
        self.found = state


class Unkept(Extra):
    kept: Any = {"a": 1}  # noqa: RUF012


def test_what_a_module_keeps_beside_its_tensors_loads_strictly(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(), TinyTask(lambda: nn.Sequential(Extra()))) as run:
        export_ticket(run, 1, tmp_path / "ticket.safetensors")
    loaded = Extra()
    nn.Sequential(loaded).load_state_dict(safetensors.torch.load_file(tmp_path / "ticket.safetensors"), strict=True)
    assert loaded.found.tolist() == [3, 4]
    assert verify(tmp_path / "run").problems == 0


def test_what_no_such_file_can_hold_is_named(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(), TinyTask(lambda: nn.Sequential(Unkept()))) as run:
        with pytest.raises(LotteryFLError, match=r": 0\._extra_state is of type dict, which a \.safetensors "):
            export_ticket(run, 1, tmp_path / "ticket.safetensors")
        missing = nn.Sequential(Unkept()).load_state_dict(ticket_tensors(run, 1), strict=False)
    assert not (tmp_path / "ticket.safetensors").exists()
    assert missing == (["0._extra_state"], [])


@pytest.mark.parametrize("name", ["ticket.pt", "ticket.pth", "ticket.safetensors.bin"])
def test_no_other_format_is_written_under_its_name(run: RunDirectory, tmp_path: Path, name: str) -> None:
    with pytest.raises(LotteryFLError, match=f"--out .*{name}: expected a name that ends in .safetensors"):
        export_ticket(run, 0, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_the_header_says_what_is_in_the_file(run: RunDirectory, tmp_path: Path) -> None:
    export_ticket(run, 2, tmp_path / "ticket.safetensors")
    export_global(run, tmp_path / "global.safetensors")
    known = {"format": "pt", "task": "digits", "model": "mlp", "run": run.database.get("run_id")}
    ticket, shared = header(tmp_path / "ticket.safetensors"), header(tmp_path / "global.safetensors")
    assert ticket.pop("model_sha256") == digest(safetensors.torch.load_file(tmp_path / "ticket.safetensors"))
    assert ticket == {**known, "client": "2", "round": "5", "density": "0.5"}
    assert shared.pop("model_sha256") == digest(safetensors.torch.load_file(tmp_path / "global.safetensors"))
    assert shared == {**known, "round": "4", "density": shared["density"]}
    assert 0.5 <= float(shared["density"]) <= 1


def test_the_global_model_is_what_the_rounds_made(run: RunDirectory, tmp_path: Path) -> None:
    export_global(run, tmp_path / "global.safetensors")
    state = load(tmp_path / "global.safetensors").state_dict()
    plain = {name: tensor for name, tensor in state.items() if name != "decoder.weight"}
    assert digest(plain) == run.database.get("model_sha256")


def test_half_is_float16_and_what_it_cannot_hold_is_named(run: RunDirectory, tmp_path: Path) -> None:
    for name, half in (("whole", False), ("half", True)):
        export_ticket(run, 1, tmp_path / name, form=Form(half=half))
    whole, half_ = (safetensors.torch.load_file(tmp_path / name) for name in ("whole", "half"))
    assert half_.keys() == whole.keys()
    for name, tensor in whole.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(half_[name], expected)
        assert half_[name].dtype == expected.dtype
    load(tmp_path / "half")

    def large() -> Tied:
        model = Tied()
        model.norm.running_mean = torch.full((6,), 7e5)
        return model

    with (
        simulated(tmp_path / "run", tiny_experiment(rounds=1), TinyTask(large)) as other,
        pytest.raises(LotteryFLError, match=r"--half: norm.running_mean holds .*, and float16 ends at 65504"),
    ):
        export_global(other, tmp_path / "large", form=Form(half=True))
    assert not (tmp_path / "large").exists()
