"""A result between its check and its answer: the round may end meanwhile, and what does not count goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import FileName, WorkerId
from lotteryfl.common.tensors.file import save
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.rounds.resultcheck import Arrival, examine
from lotteryfl.server.store.rundb.rows import AssignmentRow, Received
from tests.support.bench import CPU, Answer, Bench, TinyTask, create, silent, tiny_experiment

Drive = Callable[..., Bench]

ACCEPTED, DUPLICATE, STALE = pb.SubmitReply.ACCEPTED, pb.SubmitReply.DUPLICATE, pb.SubmitReply.STALE


def file_of(answer: Answer) -> FileName:
    return FileName(f"results/{answer.result.assignment_id}.9.safetensors")


def overtaken(drive: Drive, *, its_file_is_there: bool, **changes: Any) -> tuple[Bench, Arrival]:
    """A result that was wanted when it came, and whose round is over when it has been checked."""
    bench = drive(tiny_experiment(round={"deadline": 8, "lease": 8}, **changes))
    late, worker = bench.register("late"), bench.register()
    answer = bench.do(bench.take(late))
    answer.result.worker_id = late
    assigned = bench.coordinator.wanted(late, answer.result.assignment_id)
    assert isinstance(assigned, AssignmentRow)
    if its_file_is_there:
        save(bench.path / file_of(answer), answer.entries, "results")
    arrival = examine(bench.run, answer.result, file_of(answer), assigned)
    bench.do_all(worker)
    bench.now = 8
    bench.commit()
    return bench, arrival


@pytest.mark.parametrize("its_file_is_there", [True, False])
def test_a_result_whose_round_ends_while_it_is_checked_is_stale_and_no_refusal(
    drive: Drive, its_file_is_there: bool
) -> None:
    bench, arrival = overtaken(drive, its_file_is_there=its_file_is_there)
    assert isinstance(arrival.finding, Received if its_file_is_there else FileNotFoundError)
    standings = bench.run.database.assignments(2)
    assert bench.coordinator.settle(arrival).verdict == STALE
    assert not (bench.path / arrival.file).exists()
    assert bench.coordinator.status().refusals == []
    assert bench.run.database.assignments(2) == standings


def masks_in_use(bench: Bench) -> set[str]:
    return {path.name for path in bench.run.files_in_use() if path.parent.name == "masks"}


def test_a_stale_result_leaves_no_mask(drive: Drive) -> None:
    trained_first = {"name": "sub-fedavg", "min_mask_change": 0.0}  # so that every client's mask is another
    bench, arrival = overtaken(drive, its_file_is_there=True, strategy=trained_first)
    assert isinstance(arrival.finding, Received)
    mask = f"{arrival.finding.mask_digest}.safetensors"
    assert bench.files("masks") - masks_in_use(bench) == {mask}
    assert bench.coordinator.settle(arrival).verdict == STALE
    assert bench.files("masks") == masks_in_use(bench)
    assert not bench.run.leftovers()


def checked(bench: Bench, worker: WorkerId) -> Arrival:
    answer = bench.do(bench.take(worker))
    answer.result.worker_id = worker
    file = file_of(answer)
    save(bench.path / file, answer.entries, "results")
    assigned = bench.coordinator.wanted(worker, answer.result.assignment_id)
    assert isinstance(assigned, AssignmentRow)
    return examine(bench.run, answer.result, file, assigned)


def test_a_mask_that_another_result_has_too_stays(drive: Drive) -> None:
    """The same work of two workers has the same mask; the first of them is lost while both are checked."""
    bench = drive()
    slow, quick = bench.register("slow"), bench.register("quick")
    stale = checked(bench, slow)
    bench.coordinator.leave(slow, "gone")
    counted = checked(bench, quick)
    assert isinstance(stale.finding, Received)
    assert isinstance(counted.finding, Received)
    assert stale.finding.mask_digest == counted.finding.mask_digest
    assert bench.coordinator.settle(stale).verdict == STALE
    assert bench.run.load_masks(counted.finding.mask_digest)
    assert bench.coordinator.settle(counted).verdict == ACCEPTED
    assert bench.files("masks") == masks_in_use(bench) == {f"{counted.finding.mask_digest}.safetensors"}


def test_a_simulation_leaves_no_more_masks_than_it_needs(drive: Drive) -> None:
    bench = drive()
    Simulation(bench.run, TinyTask(), CPU).run(silent)
    assert bench.files("masks") == masks_in_use(bench)
    assert not bench.run.leftovers()


def test_a_result_that_misses_a_file_of_its_open_round_has_its_work_given_out_again(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.result.worker_id = worker
    reply = bench.coordinator.take(answer.result, file_of(answer))
    assert reply.verdict == STALE
    (row,) = [row for row in bench.run.database.assignments(1) if row.reason]
    assert "No such file" in row.reason
    assert bench.coordinator.status().refusals == []
    assert bench.take(worker).assignment.assignment_id == answer.result.assignment_id.replace("-a1", "-a2")


def test_a_result_that_is_not_wanted_is_not_read_and_goes(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    assert bench.submit(worker, answer).verdict == ACCEPTED
    counted = bench.files("results")
    (bench.path / file_of(answer)).write_bytes(b"not a safetensors file")
    assert bench.coordinator.take(answer.result, file_of(answer)).verdict == DUPLICATE
    assert bench.files("results") == counted


def test_an_open_round_is_not_concluded(drive: Drive) -> None:
    bench = drive()
    with pytest.raises(ValueError, match=r"round 1 is still open: expected advance\(\) to say COMMIT before"):
        bench.coordinator.closed_round()


def test_a_simulation_leaves_nothing_of_what_is_refused(tmp_path: Path) -> None:
    experiment = tiny_experiment(checks={"max_update_norm": 1e-9})
    with create(tmp_path / "run", experiment, TinyTask()) as run:
        with pytest.raises(LotteryFLError, match="no worker is left"):
            Simulation(run, TinyTask(), CPU).run(silent)
        assert list((run.path / "results").iterdir()) == []
