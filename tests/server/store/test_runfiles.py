"""A run directory from somebody else is data: it names no file outside of itself, and has no links."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.server.results.ticket import export_ticket
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import is_tensor_file, model_file, result_file
from tests.support.bench import Bench
from tests.support.damage import TICKET, edit

Drive = Callable[..., Bench]
OUTSIDE = ["../ticket.safetensors", "results/../../ticket.safetensors", "ticket.safetensors", "results/x.safetensors"]


@pytest.fixture
def outside(finished_run: Path) -> Path:
    """A ticket that is not the run's, where a name might lead to."""
    path = finished_run.parent / "ticket.safetensors"
    shutil.copy(finished_run / TICKET, path)
    return path


def test_the_names_that_a_run_gives_are_its_own() -> None:
    assert model_file(3) == "models/round-0003.safetensors"
    assert result_file(AssignmentId(1, 2, 3)) == "results/r1-c2-a3.safetensors"
    assert result_file(AssignmentId(1, 2, 3), 4) == "results/r1-c2-a3.4.safetensors"
    for name in (
        model_file(0),
        model_file(123456),
        result_file(AssignmentId(1, 2, 3)),
        result_file(AssignmentId(1, 2, 3), 4),
    ):
        assert is_tensor_file(name)
    for other in [
        *OUTSIDE,
        "",
        "models/round-1.safetensors",
        "models/round-0001.safetensors\n",
        "/models/round-0001.safetensors",
    ]:
        assert not is_tensor_file(other)


@pytest.mark.parametrize("name", [*OUTSIDE, "/ticket.safetensors"])
def test_a_ticket_elsewhere_is_never_opened_and_never_deleted(finished_run: Path, outside: Path, name: str) -> None:
    edit(finished_run, f"UPDATE clients SET ticket = '{name}' WHERE client = 0")  # noqa: S608
    with RunDirectory(finished_run) as run:
        with pytest.raises(PayloadError, match="expected the name of a file in models/ or results/"):
            export_ticket(run, 0, finished_run.parent / "out.safetensors")
        with pytest.raises(PayloadError, match="expected the name of a file in models/ or results/"):
            run.tickets_sha256()
        assert outside not in run.files_in_use()
    assert outside.exists()
    assert not (finished_run.parent / "out.safetensors").exists()
    assert verify(finished_run).problems


def test_an_assignment_that_starts_elsewhere_is_not_sent(drive: Drive) -> None:
    bench = drive()
    edit(bench.path, "UPDATE assignments SET source = 'results/../../secret.safetensors'")
    bench.restart()
    work = bench.take(bench.register())
    with pytest.raises(PayloadError, match="expected the name of a file in models/ or results/"):
        assignment_payload(bench.run, work)


def test_a_result_elsewhere_is_not_aggregated_or_deleted(drive: Drive) -> None:
    bench = drive()
    bench.do_all(bench.register())
    secret = bench.path.parent / "secret.safetensors"
    shutil.copy(bench.path / bench.run.database.results(1)[0].file, secret)
    edit(bench.path, "UPDATE results SET file = '../secret.safetensors'")
    bench.restart()
    assert secret.exists()
    with pytest.raises(PayloadError, match="expected the name of a file in models/ or results/"):
        bench.conclude()


@pytest.mark.parametrize("mask", ["../x", "/x", "0" * 63, "A" * 64])
def test_a_mask_elsewhere_is_never_opened(finished_run: Path, mask: str) -> None:
    edit(finished_run, f"UPDATE clients SET mask = '{mask}' WHERE client = 0")  # noqa: S608
    with RunDirectory(finished_run) as run:
        with pytest.raises(PayloadError, match="expected to be named by 64 hexadecimal digits"):
            export_ticket(run, 0, finished_run.parent / "out.safetensors")
        assert run.blob_path(mask) is None


@pytest.mark.parametrize("place", ["results", "models/round-0000.safetensors", "run.lock", "summary.tmp", "logs"])
def test_a_run_directory_with_a_link_is_not_opened(finished_run: Path, tmp_path: Path, place: str) -> None:
    """What a run writes, deletes and sends to workers would be somebody else's."""
    target = tmp_path / "precious"
    path = finished_run / place
    if path.is_dir() or place == "logs":
        target.mkdir()
        (target / "file").write_text("precious")
        shutil.rmtree(path, ignore_errors=True)
    else:
        target.write_text("precious")
        path.unlink(missing_ok=True)
    path.symlink_to(target)
    for look in (lambda: RunDirectory(finished_run), lambda: RunDirectory(finished_run, read_only=True)):
        with pytest.raises(LotteryFLError, match=f"{place}: is a link: a run directory holds files and folders"):
            look()
    with pytest.raises(LotteryFLError, match="is a link"):
        verify(finished_run)
    assert (target / "file" if target.is_dir() else target).read_text() == "precious"


def test_a_run_directory_that_is_itself_behind_a_link_is_anybodys_own_choice(
    finished_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(finished_run)
    with RunDirectory(tmp_path / "link") as run:
        assert Coordinator(run).state == "finished"
