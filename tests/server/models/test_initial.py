"""θ_0 from a file, a folder or a run: these values, and nothing that does not fit."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment, from_json, load
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.models.ticket import global_tensors, ticket_tensors
from lotteryfl.server.results.ticket import Form, export_ticket
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Tied, TinyTask, simulated, tiny_experiment


def experiment_from(place: object, **changes: object) -> Experiment:
    return tiny_experiment(task={"initial": str(place)}, **changes)


def begun(folder: Path, place: object) -> RunDirectory:
    return set_up(folder, experiment_from(place), TinyTask(Tied))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return simulated(tmp_path_factory.mktemp("initial") / "run", tiny_experiment(rounds=4), TinyTask(Tied))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The state dict of a model that somebody trained, as safetensors' own writer leaves it: a tie comes once."""
    torch.manual_seed(99)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_model(Tied(), str(path))
    return path


def is_model(initial: dict[str, torch.Tensor], path: Path) -> bool:
    model = Tied()
    safetensors.torch.load_model(model, path)
    return all(torch.equal(model.state_dict()[name], tensor) for name, tensor in initial.items())


def test_a_file_or_the_folder_that_holds_it_is_theta_0_and_its_digest_is_kept(tmp_path: Path, trained: Path) -> None:
    sha256 = hashlib.sha256(trained.read_bytes()).hexdigest()
    for number, place in enumerate((trained, trained.parent, f"{trained}#sha256={sha256}")):
        with begun(tmp_path / f"run-{number}", place) as run:
            assert is_model(open_file(run.model_path(0)), trained)
            assert run.database.get("initial_from") == str(place)
            assert run.database.get("initial_from_sha256") == sha256
            assert from_json(run.experiment_for_workers()).task.initial == ""


def test_a_run_goes_on_from_anothers_global_model_and_from_a_ticket(run: RunDirectory, tmp_path: Path) -> None:
    for place, expected in ((run.path, global_tensors(run)), (f"{run.path}#client=3", ticket_tensors(run, 3))):
        with simulated(tmp_path / str(place)[-8:], experiment_from(place), TinyTask(Tied)) as next_:
            initial = open_file(next_.model_path(0))
            assert all(torch.equal(initial[spec.name], expected[spec.name]) for spec in next_.table)
            assert next_.database.get("initial_from_sha256") == digest(expected)
            assert next_.database.get("model_sha256") != digest(initial)
            assert {row.density for row in next_.database.clients()} != {0.5}  # the ticket's mask is not taken over


def test_what_was_exported_in_half_is_theta_0_in_the_models_dtype(run: RunDirectory, tmp_path: Path) -> None:
    export_ticket(run, 1, tmp_path / "ticket.safetensors", form=Form(half=True))
    with begun(tmp_path / "next", tmp_path / "ticket.safetensors") as next_:
        initial, ticket = open_file(next_.model_path(0)), ticket_tensors(run, 1)
        for spec in next_.table:
            assert initial[spec.name].dtype == spec.dtype
            torch.testing.assert_close(initial[spec.name], ticket[spec.name], rtol=1e-3, atol=1e-6)


def test_a_head_of_another_size_may_stay_fresh(tmp_path: Path, trained: Path) -> None:
    class Larger(Tied):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 5)

    fresh, spared = tmp_path / "fresh", f"{trained}#except=head.*"
    with set_up(fresh, tiny_experiment(), TinyTask(Larger)) as seeded:
        own = {name: tensor.clone() for name, tensor in open_file(seeded.model_path(0)).items()}
    with set_up(tmp_path / "run", experiment_from(spared), TinyTask(Larger)) as run:
        initial = open_file(run.model_path(0))
    heads = {name for name in own if name.startswith("head.")}
    assert len(heads) == 2
    assert all(torch.equal(initial[name], own[name]) for name in heads)
    assert is_model({name: tensor for name, tensor in initial.items() if name not in heads}, trained)

    with pytest.raises(ExperimentError, match=r"does not fit the model: with 'head.bias' of shape \[3\] for \[5\], "):
        set_up(tmp_path / "other", experiment_from(trained), TinyTask(Larger))


def test_names_that_do_not_fit_are_said_in_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    safetensors.torch.save_file({f"layer{i}.weight": torch.zeros(2) for i in range(9)}, tmp_path / "x.safetensors")
    with pytest.raises(ExperimentError) as caught:
        begun(tmp_path / "run", tmp_path / "x.safetensors")
    assert str(caught.value) == (
        f"task.initial = '{tmp_path / 'x.safetensors'}': does not fit the model: without 'decoder.bias', "
        "'encoder.bias', 'encoder.weight' and 7 more; and with what the model has not, 'layer0.weight', "
        "'layer1.weight', 'layer2.weight' and 6 more; leave out what is to be fresh by #except=PATTERN,…"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nowhere.safetensors", "nowhere.safetensors: No such file or directory"),
        ("folder", "is a folder, and neither a run's nor one with model.safetensors"),
        ("garbage", "header of .* bytes"),
        ("model.safetensors#client=0", "has a client, and is no run directory"),
        ("model.safetensors#sha256=" + 64 * "0", "its digest is [0-9a-f]{64}"),
        ("model.safetensors#sha256=12", "sha256 = '12': expected 64 hexadecimal digits"),
        (
            "model.safetensors#digest=12",
            "expected FILE.safetensors, a model's folder or a run's, or hf:OWNER/NAME@COMMIT, and behind it",
        ),
        ("run#client=4", "client 4: the run's clients are 0 to 3"),
        ("run#client=-1", "client = '-1': expected a number"),
    ],
)
def test_what_cannot_be_theta_0_is_named(
    run: RunDirectory, tmp_path: Path, trained: Path, place: str, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage").write_bytes(b"not a safetensors file")
    (tmp_path / "run").symlink_to(run.path)
    with pytest.raises(ExperimentError, match=rf"^task.initial = '.*{place}': .*{reason}"):
        begun(tmp_path / "next", tmp_path / place)
    assert not (tmp_path / "next").exists()


def test_a_place_is_found_beside_the_experiment_file(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text('[task]\ninitial = "models/resnet#client=3"\n')
    assert load(tmp_path / "experiment.toml").task.initial == f"{tmp_path}/models/resnet#client=3"


@pytest.mark.parametrize("place", ["hf:somebody/vit", "hf:somebody/vit@main", "hf:vit@" + "0" * 40])
def test_a_place_on_the_hub_is_a_repository_at_a_commit(place: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=rf"^task\.initial = '{place}': '{place}': expected hf:OWNER/NAME@COMMIT"):
        begun(tmp_path / "run", place)


def test_a_place_on_the_hub_is_none_beside_the_experiments_file(tmp_path: Path) -> None:
    place = "hf:somebody/vit@" + "0" * 40 + "#sha256=" + "1" * 64
    (tmp_path / "experiment.toml").write_text(f'[task]\ninitial = "{place}"\n')
    assert load(tmp_path / "experiment.toml").task.initial == place
