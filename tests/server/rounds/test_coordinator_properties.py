"""A run over a real directory, driven by random events, and what is promised of it at every moment."""

import functools
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.security.identity import name_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.rounds.workers import AsideError, UnknownWorkerError
from lotteryfl.server.store.assignments import AssignmentId, Standing
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import Answer, Bench, TinyTask, tiny_experiment

LEASE = 10.0
NAMES = st.sampled_from(["a", "b", "c"])
SubmitReply = pb.SubmitReply

IMPATIENT = tiny_experiment(round={"lease": LEASE, "deadline": 25, "max_attempts": 2, "min_results": 2, "retries": 1})
PATIENT = tiny_experiment(round={"lease": LEASE, "deadline": 1e9, "max_attempts": 10**6})
"""Waits for every client: whatever happens, it ends with the bits of an undisturbed run."""


@functools.cache
def undisturbed_bits() -> tuple[str, str, str]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "run", PATIENT, TinyTask())
        bits = bench.finish().bits()
        bench.close()
    return bits


class AnyRun(RuleBasedStateMachine):
    """Workers that come, go, answer late, twice and wrongly; a coordinator that is killed; time that passes."""

    @initialize(experiment=st.sampled_from([PATIENT, IMPATIENT]))
    def start(self, experiment: Experiment) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name) / "run", experiment, TinyTask())
        self.incarnations: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # by worker's name
        self.known: set[WorkerId] = set()  # worker ids that the coordinator answers
        self.answers: list[tuple[WorkerId, Answer]] = []
        self.issued: dict[AssignmentId, WorkerId] = {}
        self.accepted: dict[tuple[int, int], tuple[AssignmentId, WorkerId]] = {}  # by round and client
        self.is_closed = False
        self.model = self.bench.run.database.get("model_sha256")

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.bench.restart().coordinator.take_back_all("the others are gone")
        self.bench.finish()
        if self.bench.run.experiment == PATIENT:
            assert self.bench.bits() == undisturbed_bits()
        assert self.bench.coordinator.state == "finished"
        for round_, client in self.accepted:
            assert self.row(AssignmentId(round_, client, 0)).state == "done"
        self.bench.close()
        assert [str(problem) for group in verify(self.bench.path).groups for problem in group.problems] == []
        self.folder.cleanup()

    def row(self, id_: AssignmentId) -> Standing:
        (row,) = [row for row in self.bench.run.database.assignments(id_.round) if row.client == id_.client]
        return row.standing

    def is_aside(self, name: str) -> bool:
        return self.refused[name] >= self.bench.run.experiment.checks.max_refusals

    def worker(self, name: str, older: int = 0) -> WorkerId:
        return WorkerId(f"{name}:{self.incarnations[name] - older}")

    def everything(self) -> list[list[tuple[object, ...]]]:
        """The run on the disk, as long as nothing was answered for."""
        tables = ("run", "rounds", "clients", "assignments", "results", "refusals", "metrics", "measures")
        return [list(self.bench.run.database.select(f"SELECT * FROM {table}")) for table in tables]  # noqa: S608

    # -- workers

    @rule(name=NAMES, anew=st.booleans())
    def register(self, name: str, anew: bool) -> None:
        if self.is_aside(name):
            with pytest.raises(AsideError, match=f"^worker {name} is put aside for the rest of this run: 3 of its"):
                self.bench.register(name, str(self.incarnations[name] + anew))
            return
        held = {id_ for id_ in self.issued if self.holds(id_, self.worker(name))}
        self.incarnations[name] += anew
        self.known.discard(self.worker(name, older=1))
        self.bench.register(name, str(self.incarnations[name]))
        self.known.add(self.worker(name))
        if anew:
            assert not any(self.row(id_).state == "leased" for id_ in held)

    @rule(name=NAMES)
    def an_old_incarnation_comes_back(self, name: str) -> None:
        old = self.worker(name, older=1)
        if self.incarnations[name] and self.worker(name) in self.known:
            before = self.everything()
            try:
                self.bench.coordinator.heartbeat(old, [])
                raise AssertionError("it was replaced")
            except UnknownWorkerError:
                pass
            assert self.everything() == before

    @rule(name=NAMES, for_another=st.booleans())
    def fetch(self, name: str, for_another: bool) -> None:
        worker = self.worker(name)
        has = [str(id_) for id_ in self.issued if self.holds(id_, worker)] if for_another else []
        try:
            work = self.bench.coordinator.lease(worker, has)
        except UnknownWorkerError:
            assert worker not in self.known
            return
        except AsideError:
            assert self.is_aside(name)
            return
        assert not self.is_aside(name)
        if work is None:
            return
        assert not self.is_closed
        id_ = AssignmentId.parse(work.assignment.assignment_id)
        assert id_ is not None
        assert self.holds(id_, worker), "on disk before it is handed out"
        if self.issued.setdefault(id_, worker) != worker:
            raise AssertionError(f"{id_} was handed to two workers")
        newest = max(known.attempt for known in self.issued if known[:2] == id_[:2])
        assert id_.attempt == newest
        assert (id_.round, id_.client) not in self.accepted, "no acknowledged result is computed again"
        self.answers.append((worker, self.bench.do(work)))

    @rule(name=NAMES, names_it=st.booleans())
    def heartbeat(self, name: str, names_it: bool) -> None:
        worker = self.worker(name)
        mine = [answer.result.assignment_id for who, answer in self.answers if who == worker][-1:] * names_it
        try:
            lost = self.bench.coordinator.heartbeat(worker, [pb.AssignmentProgress(assignment_id=id_) for id_ in mine])
        except UnknownWorkerError:
            assert worker not in self.known
            return
        for text in mine:
            id_ = AssignmentId.parse(text)
            assert id_ is not None
            running = self.bench.coordinator.state == "running"
            assert (text in lost) == (not (running and self.holds(id_, worker)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), impostor=st.none() | NAMES, spoilt=st.booleans())
    def submit(self, data: st.DataObject, impostor: str | None, spoilt: bool) -> None:
        """Any answer that was ever worked out: in time or late, again, by its worker or another one."""
        newest_first = st.integers(0, len(self.answers) - 1).map(lambda n: self.answers[-1 - n])
        worker, answer = data.draw(newest_first)
        worker = self.worker(impostor) if impostor else worker
        id_ = AssignmentId.parse(answer.result.assignment_id)
        assert id_ is not None
        is_wanted = self.is_wanted(id_, worker)
        before = self.everything()
        sent = answer
        if spoilt:
            result = pb.Result()
            result.CopyFrom(answer.result)
            result.examples = 0
            sent = Answer(result, answer.entries)
        verdict = self.bench.submit(worker, sent).verdict
        if not is_wanted:
            again = self.accepted.get((id_.round, id_.client)) == (id_, worker)
            assert verdict == (SubmitReply.DUPLICATE if again else SubmitReply.STALE)
            assert self.everything() == before, "neither changes anything"
        elif spoilt:
            assert verdict == SubmitReply.REFUSED
            self.refused[name_of(worker)] += 1
            if self.is_aside(name_of(worker)):
                self.known.discard(worker)
            assert self.row(id_).state in ("waiting", "dropped")
        else:
            assert verdict == SubmitReply.ACCEPTED
            assert (id_.round, id_.client) not in self.accepted, "counted once"
            self.accepted[id_.round, id_.client] = (id_, worker)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        worker, answer = data.draw(st.sampled_from(self.answers[-3:]))
        id_ = AssignmentId.parse(answer.result.assignment_id)
        assert id_ is not None
        is_wanted, before = self.is_wanted(id_, worker), self.everything()
        self.bench.coordinator.release(worker, str(id_), "stopped")
        if is_wanted:
            assert self.row(id_).state in ("waiting", "dropped")
        else:
            assert self.everything() == before

    def holds(self, id_: AssignmentId, worker: WorkerId) -> bool:
        standing = self.row(id_)
        return (standing.id, standing.state, standing.worker) == (id_, "leased", worker)

    def is_wanted(self, id_: AssignmentId, worker: WorkerId) -> bool:
        is_open = self.bench.coordinator.state == "running" and not self.is_closed
        return is_open and id_.round == self.bench.coordinator.round and self.holds(id_, worker)

    # -- the coordinator

    @rule(seconds=st.sampled_from([0.0, 1.0, LEASE, LEASE, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds
        round_ = self.bench.coordinator.round
        step = self.bench.coordinator.advance()
        assert self.bench.coordinator.round == round_, "only a commit ends a round"
        self.is_closed = step is Step.COMMIT

    @precondition(lambda self: self.is_closed)
    @rule(dies_before=st.booleans())
    def commit(self, dies_before: bool) -> None:
        bench, round_ = self.bench, self.bench.coordinator.round
        conclusion = bench.conclude()
        if dies_before:
            self.restart()
            return
        results = {row.client for row in bench.run.database.results(round_)}
        assert results == {client for number, client in self.accepted if number == round_}
        assert len(results) >= bench.run.experiment.round.min_results
        before = [self.masks(row.mask) for row in bench.run.database.clients()]
        bench.coordinator.commit(conclusion)
        self.is_closed = False
        if conclusion.model is not None:
            self.model = conclusion.model.sha256
        for client, old in enumerate(before):
            new = self.masks(bench.run.database.clients()[client].mask)
            assert client in results or new.keys() == old.keys()
            for name in old:
                assert not (new[name] & ~old[name]).any(), "masks only shrink"
        assert bench.coordinator.round == round_ + 1
        if bench.coordinator.state == "running":
            (stragglers,) = [set(s.stragglers) for s in round_summaries(bench.run.database, round_)]
            sampled = {row.client for row in bench.run.database.assignments(round_)}
            assert stragglers == sampled - results

    def masks(self, digest: Digest) -> dict[str, PackedMask]:
        return {name: np.array(mask) for name, mask in self.bench.run.load_masks(digest).items()}

    @rule(is_far_later=st.booleans())
    def coordinator_restarts(self, is_far_later: bool) -> None:
        self.bench.now += 5000 * is_far_later
        self.restart()

    def restart(self) -> None:
        self.bench.restart()
        self.known.clear()
        self.is_closed = False
        assert self.bench.coordinator.state in ("running", "finished"), "a failed run is taken up again"

    # -- always

    @invariant()
    def the_model_changes_only_at_a_commit(self) -> None:
        assert self.bench.run.database.get("model_sha256") == self.model

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        database = self.bench.run.database
        for round_ in range(1, self.bench.coordinator.round + 1):
            counted = {row.client: row.file for row in database.results(round_)}
            assert counted.keys() == {client for number, client in self.accepted if number == round_}
            for client, file in counted.items():
                id_, _ = self.accepted[round_, client]
                assert re.fullmatch(rf"results/{id_}\.\d+\.safetensors", file)
                assert round_ < self.bench.coordinator.round or (self.bench.path / file).is_file()


TestAnyRun = AnyRun.TestCase
TestAnyRun.settings = settings(max_examples=15, stateful_step_count=30)
