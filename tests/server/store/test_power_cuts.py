"""Power cuts at every step of set-ups, results and commits: the same command makes a whole run of whatever is left."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lotteryfl.common import faults
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.faults import SETUP_POINTS, Fault
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.setup import open_or_create_run
from lotteryfl.server.store.rundir import RunDirectory
from tests.support import gated_task
from tests.support.bench import CPU, silent, tiny_experiment
from tests.support.powercut import Disk, Tree, write

TASK = str(gated_task.__file__)
RUN = Path("experiments", "today", "run")

Bits = tuple[str, str]


@dataclass(frozen=True)
class Left:
    """What a power cut has left."""

    step: str
    """After which step it came."""
    tree: Tree
    promised: frozenset[str]
    """What had been acknowledged."""


@dataclass
class Recording:
    """Everything that power cuts may leave of what is done in a folder, each once."""

    root: Path
    left: dict[str, Left] = field(default_factory=dict)
    _promised: frozenset[str] = frozenset()
    _random: Random = field(default_factory=lambda: Random(13))  # noqa: S311 - power cuts are no secrets

    def __post_init__(self) -> None:
        self.root.mkdir()
        self.disk = Disk(self.root, self._look)

    def _look(self, step: str) -> None:
        for cut in self.disk.cuts(self._random):
            tree = self.disk.left_by(cut)
            self.left[digest(tree, *sorted(self._promised))] = Left(step, tree, self._promised)

    def promise(self, run: RunDirectory) -> None:
        """Note that there is the run, and what it has counted: whoever sent that knows."""
        self._promised = facts(run)
        self._look(f"{len(self._promised)} facts known outside")


def facts(run: RunDirectory) -> frozenset[str]:
    """What others may know of a run: that there is this one, and which results counted."""
    return frozenset({run.run_id, *map(str, run.database.select("SELECT round, client, mask FROM results"))})


def digest(tree: Mapping[str, bytes | None], *more: str) -> str:
    names = [(name, content and hashlib.sha256(content).hexdigest()) for name, content in sorted(tree.items())]
    return hashlib.sha256(repr((names, more)).encode()).hexdigest()


def taken_up(run: RunDirectory) -> str:
    """Take a run up; return a digest of what it then stands on."""
    Coordinator(run, clock=lambda: 0.0)  # what nothing refers to goes
    files = {str(path): path.read_bytes() for path in run.path.rglob("*.safetensors")}
    return digest(files, run.state, *sorted(facts(run) - {run.run_id}))


def finish(run: RunDirectory, show: Callable[[pb.RunStatus], None] = silent) -> Bits:
    """Do what is left of a run; return its bits."""
    if run.state != "finished":
        Simulation(run, load_task(run.experiment, (TASK,)), CPU).run(show)
    write_summary(run)
    return run.database.get("model_sha256"), run.tickets_sha256()


def experiment_of(**changes: Any) -> Experiment:
    return tiny_experiment(clients=3, clients_per_round=2, task={"name": TASK}, **changes)


def check(recording: Recording, folder: Path, experiment: Experiment, bits: Bits) -> int:
    """Go on with all that may be left, by the same command; return how many different runs came of it."""
    known = set()
    for left in recording.left.values():
        write(left.tree, folder)
        with open_or_create_run(folder / RUN, experiment, (TASK,)) as run:
            assert left.promised <= facts(run), f"{left.step}: what was acknowledged is lost"
            assert not (run.path / ".setup").exists()
            if (key := taken_up(run)) in known:
                continue
            known.add(key)
            assert not (report := verify(run.path)).problems, [left.step, *report.lines()]
            assert finish(run) == bits, left.step
    return len(known)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: there are thousands of syncs."""
    shared = Path("/dev/shm")  # noqa: S108
    with TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


EXPERIMENTS: Mapping[str, Mapping[str, Any]] = {
    "own masks": {},
    "shared masks and an optimizer": {"strategy": {"name": "feddst"}, "server": {"optimizer": "adam"}},
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[pytest.mark.slow] * (name == "own masks"))
        for name, changes in EXPERIMENTS.items()
    ],
)
def test_whatever_a_power_cut_leaves_is_set_up_again_or_whole(memory: Path, changes: Mapping[str, Any]) -> None:
    experiment, recording = experiment_of(**changes), Recording(memory / "world")
    with recording.disk.followed(), open_or_create_run(recording.root / RUN, experiment, (TASK,)) as run:
        bits = finish(run, lambda _: recording.promise(run))
    assert len(recording.left) > 100
    assert check(recording, memory / "after", experiment, bits) >= 10  # after each of 7 results and of 3 rounds


@pytest.mark.slow
@pytest.mark.parametrize("point", [*SETUP_POINTS, "models-renamed"])
def test_so_it_is_when_a_set_up_had_to_be_done_again(memory: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier process did is not on disk either, and nothing of it gets into the run."""
    experiment, recording = experiment_of(), Recording(memory / "world")
    path = recording.root / RUN
    with recording.disk.followed():
        monkeypatch.setattr(faults, "_plan", faults.Plan((Fault(point, "raise", 1),)))
        with pytest.raises(LotteryFLError, match="No space left on device"):
            open_or_create_run(path, experiment, (TASK,))
        monkeypatch.undo()
        with open_or_create_run(path, experiment, (TASK,)) as run:
            recording.promise(run)
    with RunDirectory(path) as run:
        check(recording, memory / "after", experiment, finish(run))
