"""Runs on a tiny task, driven by hand: every answer of the coordinator and every file can be looked at."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.client.local.files import LocalCode, load_local
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.handover import Outcome
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.names import Digest, FileName, WorkerId
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tensors.file import open_file, parse, save
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.rounds.work import Step, Work
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES

CPU = torch.device("cpu")


def tiny_mlp() -> nn.Module:
    """72 + 36 = 108 prunable weights."""
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


class Tied(nn.Module):
    """36 + 18 = 54 prunable weights; two layers share one, and batch norm has float and integer buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.decoder = nn.Linear(6, 6)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.head(self.decoder(torch.relu(self.norm(self.encoder(inputs)))))
        return output


class TinyTask:
    """Client k has 8 + k training examples of a rule of its own: other data, other weights in a mean."""

    name = "tiny"
    score = Score()
    objective: Objective | None = None

    def __init__(self, build: Callable[[], nn.Module] = tiny_mlp) -> None:
        self._build = build

    def model(self) -> nn.Module:
        return self._build()

    def client_data(self, client: int) -> ClientData:
        generator = torch.Generator().manual_seed(client)
        sizes = [8 + client, 6, 9]
        inputs = torch.randn(sum(sizes), 6, generator=generator)
        labels = inputs.roll(client, dims=1)[:, :3].argmax(dim=1)
        parts = zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)
        return ClientData(*(TensorDataset(*part) for part in parts))

    def global_test(self, examples: int) -> Dataset[Any]:
        raise TaskError(f"task tiny: {examples} global test examples wanted, and it has none")


def tiny_experiment(**changes: Any) -> Experiment:
    """Two rounds with three of four clients; sections are changed key by key: round={"lease": 5}."""
    table: dict[str, Any] = {
        "rounds": 2,
        "clients": 4,
        "clients_per_round": 3,
        "training": {"epochs": 1, "batch_size": 4},
        "strategy": {"prune_rate": 0.3, "target_density": 0.5, "accuracy_threshold": 0.0},
        "round": {"lease": 10, "deadline": 100},
    }
    for key, value in changes.items():
        table[key] = {**table.get(key, {}), **value} if isinstance(value, Mapping) else value
    return validate(table, "test")


def create(path: Path, experiment: Experiment, task: TinyTask) -> RunDirectory:
    return set_up(path, experiment, task)


def built_in(experiment: Experiment) -> LocalCode | None:
    """The local algorithm of the experiment's strategy, where it comes with the program."""
    name = STRATEGIES[experiment.strategy.name].local
    return load_local().get(name) if name else None


def silent(status: pb.RunStatus) -> None:
    """Show nothing."""


def simulated(path: Path, experiment: Experiment, task: TinyTask | None = None) -> RunDirectory:
    """A whole run in one process; whoever calls closes the directory."""
    task = task or TinyTask()
    run = create(path, experiment, task)
    Simulation(run, task, CPU, local=built_in(experiment)).run(silent)
    return run


@dataclass
class Answer:
    """What a worker would send back; tests spoil it."""

    result: pb.Result
    entries: dict[str, Tensor]


class Bench:
    """A coordinator over a run directory, the clock that it looks at, and hands that do its work."""

    def __init__(self, path: Path, experiment: Experiment, task: TinyTask, *, broadcasts: bool = False) -> None:
        self.path = path
        self._broadcasts = broadcasts
        self.now = 0.0
        self.incarnation = 1
        self._task = task
        self._uploads = itertools.count()
        self._open(create(path, experiment, task))

    def _open(self, run: RunDirectory) -> None:
        self.run = run
        self.coordinator = Coordinator(run, clock=lambda: self.now, broadcasts=self._broadcasts)
        initial = open_file(run.model_path(0))
        local = built_in(run.experiment)
        self._runner = AssignmentRunner(self._task, run.experiment, run.model_table, initial, CPU, local=local)

    def close(self) -> None:
        self.run.close()

    def restart(self) -> Self:
        """Throw the coordinator away, as a kill does, and take the run up from its directory."""
        self.close()
        self._open(RunDirectory(self.path))
        return self

    # -- a worker's part

    def register(self, name: str = "w", incarnation: str = "", clients: set[int] | None = None) -> WorkerId:
        return self.coordinator.register(name, incarnation or str(self.incarnation), clients)

    def take(self, worker: WorkerId) -> Work:
        work = self.coordinator.lease(worker)
        assert work is not None
        return work

    def outcome(self, work: Work) -> Outcome:
        entries = parse(bytearray().join(assignment_payload(self.run, work)), "payload")
        masks = self.run.load_masks(Digest(work.assignment.mask_digest))
        base = None
        if work.assignment.base_digest:
            assert entries == {}
            base = open_file(self.run.path / work.source)
        return self._runner.run(work.assignment, entries, masks, base=base)

    def do(self, work: Work) -> Answer:
        outcome = self.outcome(work)
        result = pb.Result(
            assignment_id=work.assignment.assignment_id,
            examples=outcome.examples,
            metrics=outcome.metrics,
            mask_digest=outcome.mask_digest,
        )
        return Answer(result, {name: tensor.clone() for name, tensor in outcome.entries.items()})

    # -- the service's part

    def submit(self, worker: WorkerId, answer: Answer) -> pb.SubmitReply:
        answer.result.worker_id = worker
        file = FileName(f"results/{answer.result.assignment_id}.{next(self._uploads)}.safetensors")
        save(self.run.path / file, answer.entries, "results")
        return self.coordinator.take(answer.result, file)

    def conclude(self) -> Conclusion:
        assert self.coordinator.advance() is Step.COMMIT
        return self.coordinator.closed_round().conclude()

    def commit(self) -> None:
        self.run.remove(self.coordinator.commit(self.conclude()))

    def do_all(self, worker: WorkerId) -> None:
        """Do what the open round still has for this worker."""
        while work := self.coordinator.lease(worker):
            assert self.submit(worker, self.do(work)).verdict == pb.SubmitReply.ACCEPTED

    def finish(self) -> Self:
        """Do all that is left of the run, when all others are gone."""
        worker = self.register()
        for other in self.coordinator.alive_workers() - {worker}:
            self.coordinator.leave(other, "gone", told_to_stop=True)
        while (step := self.coordinator.advance()) is not Step.ENDED:
            self.commit() if step is Step.COMMIT else self.do_all(worker)
        return self

    # -- what to look at

    def files(self, folder: str) -> set[str]:
        return {path.name for path in (self.path / folder).iterdir()}

    def bits(self) -> tuple[str, str, str]:
        """Digests of the global model, of all tickets, and the run's state."""
        state = self.run.state
        return self.run.database.get("model_sha256"), self.run.tickets_sha256(), state
