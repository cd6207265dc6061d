"""The run directory: set up whole, held by one process, readable by anyone, and its files by content."""

import fcntl
import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lotteryfl.common import faults
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import from_json
from lotteryfl.common.experiment.settings import TaskSettings
from lotteryfl.common.faults import SETUP_POINTS
from lotteryfl.common.packedmasks import pack
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.payload import mask_digest
from lotteryfl.server.aggregation.aggregate import aggregate
from lotteryfl.server.aggregation.update import Update
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.conclusion import ClosedRound
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.store.setupmark import is_set_up
from tests.support.bench import Bench, TinyTask, create, tiny_experiment, tiny_mlp

Drive = Callable[..., Bench]

SET_UP_AT = ("database-renamed", "setup-synced", "setup-unmarked")
"""Points at which a run is set up: run.db has its name."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "run", tiny_experiment(), TinyTask()).close()
    return tmp_path / "run"


def test_a_new_run_holds_its_experiment_and_its_initial_model(path: Path) -> None:
    with RunDirectory(path) as run:
        assert run.experiment == tiny_experiment()
        tensors = open_file(path / model_file(0))
        assert {name: tensor.shape for name, tensor in tensors.items()} == {
            name: tensor.shape for name, tensor in tiny_mlp().state_dict().items()
        }
        assert run.initial_digest == hashlib.sha256((path / model_file(0)).read_bytes()).hexdigest()
        assert run.database.get("model_sha256") == digest(tensors)
        assert [row.client for row in run.database.clients()] == [0, 1, 2, 3]
        assert run.model_round == 0


def test_an_initial_model_that_could_not_travel_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def large() -> nn.Module:
        model = tiny_mlp()
        nn.init.constant_(model[2].weight, 1e6)  # type: ignore[index]
        return model

    with pytest.raises(LotteryFLError, match=r"dense/2.weight: value 1e\+06 at flat index 0: float16 carries"):
        create(tmp_path / "run", tiny_experiment(wire_dtype="float16"), TinyTask(large))
    assert not (tmp_path / "run").exists()
    create(tmp_path / "run", tiny_experiment(wire_dtype="int8"), TinyTask(large)).close()


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(LotteryFLError, match="is not empty; choose another run directory"):
        create(tmp_path, tiny_experiment(), TinyTask())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty", tiny_experiment(), TinyTask()).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(LotteryFLError, match=f"{path}: cannot be written"):
            create(path, tiny_experiment(), TinyTask())


def test_what_is_no_run_is_named(tmp_path: Path, path: Path) -> None:
    for other in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(LotteryFLError, match=r"is no run directory: it has no run\.db"):
            RunDirectory(other)
    (path / "run.db").unlink()
    Database(path / "run.db").close()  # an earlier version was killed while it set up the run
    with pytest.raises(LotteryFLError, match="was never finished being set up: delete it"):
        RunDirectory(path)


def test_a_set_up_that_was_not_finished_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ended: each time the disk is full at another point of it."""
    path, experiment = tmp_path / "run", tiny_experiment()
    before_it_counts = [point for point in SETUP_POINTS if point not in SET_UP_AT]
    for point in (*before_it_counts, "models-written", "models-synced", "models-renamed"):
        monkeypatch.setattr(faults, "_plan", faults.Plan((faults.Fault(point, "raise", 1),)))
        with pytest.raises(LotteryFLError, match=f"{path}: cannot be written: No space left on device"):
            create(path, experiment, TinyTask())
        assert not is_set_up(path)
        with pytest.raises(LotteryFLError, match=r"is no run directory|was never finished being set up"):
            RunDirectory(path)
    monkeypatch.undo()
    create(path, experiment, TinyTask()).close()
    assert is_set_up(path)
    with pytest.raises(LotteryFLError, match="is not empty"):
        create(path, experiment, TinyTask())
    assert verify(path).problems == 0


@pytest.mark.parametrize("point", SET_UP_AT)
def test_a_set_up_that_was_whole_is_taken_up(tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, experiment = tmp_path / "run", tiny_experiment()
    monkeypatch.setattr(faults, "_plan", faults.Plan((faults.Fault(point, "raise", 1),)))
    with pytest.raises(LotteryFLError, match=f"{path}: cannot be written: No space left on device"):
        create(path, experiment, TinyTask())
    monkeypatch.undo()
    assert is_set_up(path)
    RunDirectory(path).close()
    assert not (path / ".setup").exists()
    assert verify(path).problems == 0


def test_a_run_whose_set_up_marker_came_back_is_neither_refused_nor_cleared(drive: Drive) -> None:
    """A power cut may take its removal back."""
    bench = drive()
    bench.do_all(bench.register())
    bench.commit()
    (bench.path / ".setup").touch()
    assert is_set_up(bench.path)
    with pytest.raises(LotteryFLError, match="is not empty"):
        create(bench.path, tiny_experiment(), TinyTask())
    assert verify(bench.path).problems == 0
    bench.restart()
    assert not (bench.path / ".setup").exists()
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_a_run_is_set_up_by_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / ".setup").touch()
    with (tmp_path / "run.lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LotteryFLError, match="another process is running this run"):
            create(tmp_path, tiny_experiment(), TinyTask())
    create(tmp_path, tiny_experiment(), TinyTask()).close()


def test_one_process_runs_a_run_and_all_may_read_it(path: Path) -> None:
    with RunDirectory(path):
        with pytest.raises(LotteryFLError, match="another process is running this run"):
            RunDirectory(path)
        with RunDirectory(path, read_only=True) as reader:
            assert reader.database.get("state") == "running"
    RunDirectory(path).close()


def test_who_looks_whether_it_is_run_keeps_nobody_from_running_it(path: Path) -> None:
    with (path / "run.lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, looking.close).start()
        RunDirectory(path).close()


def test_a_run_directory_may_be_moved(tmp_path: Path, drive: Drive) -> None:
    bench = drive()
    bench.do_all(bench.register())
    bench.close()
    shutil.move(bench.path, tmp_path / "elsewhere")
    bench.path = tmp_path / "elsewhere"
    assert bench.restart().finish().bits() == drive(name="undisturbed").finish().bits()


def test_masks_are_kept_under_their_content(path: Path) -> None:
    masks = {"0.weight": pack(torch.arange(72) % 3), "2.weight": pack(torch.arange(36) % 2)}
    name = mask_digest(masks)
    with RunDirectory(path) as run:
        assert run.blob_path(name) is None
        run.save_masks(masks, name)
        run.save_masks({}, mask_digest({}))
        assert [file.name for file in (path / "masks").iterdir()] == [f"{name}.safetensors"]
        loaded = run.load_masks(name)
        assert {key: bits.tobytes() for key, bits in loaded.items()} == {k: m.tobytes() for k, m in masks.items()}
        assert run.load_masks(mask_digest({})) == {}
        blob = run.blob_path(name)
        assert blob is not None
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == name


@pytest.mark.parametrize("name", ["", "../secret", "../masks/../secret", "a" * 63, "A" * 64, "a" * 64 + "\n", "0" * 64])
def test_only_the_content_of_the_run_is_handed_out(path: Path, name: str) -> None:
    (path / "secret.safetensors").write_bytes(b"")
    with RunDirectory(path) as run:
        assert run.blob_path(name) is None
        assert run.blob_path(run.initial_digest) == path / model_file(0)


def test_workers_learn_the_experiment_without_this_machines_paths(tmp_path: Path) -> None:
    task = {"name": str(tmp_path / "my_task.py"), "data_dir": "/home/me/data"}
    with create(tmp_path / "run", tiny_experiment(task=task), TinyTask()) as run:
        sent = run.experiment_for_workers()
    assert str(tmp_path) not in sent
    assert "/home/me/data" not in sent
    experiment = from_json(sent)
    assert experiment.task == TaskSettings(name="my_task", model="mlp", data_dir="")
    assert experiment.rounds == 2


def test_the_aggregate_on_disk_is_the_one_in_memory(drive: Drive) -> None:
    bench = drive()
    bench.do_all(bench.register())
    run, rows = bench.run, bench.run.database.results(1)
    updates = [
        Update(row.client, row.examples, run.load_masks(row.mask), open_file(run.path / row.file)) for row in rows
    ]
    expected = dict(aggregate(run.table, open_file(run.model_path(0)), updates))
    strategy = bench.coordinator.strategy
    model = ClosedRound(run, strategy, 1, rows, 0).conclude().model
    assert model is not None
    stored = open_file(run.model_path(1))
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in expected)
    assert model.sha256 == digest(expected)
    assert model.digest == hashlib.sha256(run.model_path(1).read_bytes()).hexdigest()
    assert ClosedRound(run, strategy, 1, rows[::-1], 0).conclude().model == model


def test_the_digest_of_the_tickets_sees_every_ticket_and_mask(drive: Drive) -> None:
    bench = drive()
    seen = {bench.run.tickets_sha256()}
    bench.finish()
    seen.add(bench.run.tickets_sha256())
    ticket = bench.path / bench.run.database.clients()[2].ticket
    changed = bytearray(ticket.read_bytes())
    changed[-1] ^= 1
    ticket.write_bytes(changed)
    seen.add(bench.run.tickets_sha256())
    bench.run.database._connection.execute("UPDATE clients SET mask = 'x' WHERE client = 3")
    seen.add(bench.run.tickets_sha256())
    assert len(seen) == 4


def test_model_files_are_in_order_of_their_rounds() -> None:
    assert [model_file(n) for n in (0, 12, 12345)] == [
        "models/round-0000.safetensors",
        "models/round-0012.safetensors",
        "models/round-12345.safetensors",
    ]
