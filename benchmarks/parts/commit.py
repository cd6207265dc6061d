"""What does not go by the size of the model: a round's commit among many clients, and the server's optimizer."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import Measure, Row, at_most, constant, interleaved, seconds, share
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.names import Digest
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.aggregation.optimizer import ServerOptimizer
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.rundb.rows import AssignmentRow, Received
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file, result_file
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import ClientState


@dataclass(frozen=True)
class Sizes:
    """A round of how many clients, among how few and how many; parameters; how often."""

    round: int
    few: int
    many: int
    short: int
    """Rounds before it; and, of `long`, of one with the clients' own noise, which is reckoned."""
    long: int
    tensors: int
    repeats: int


FULL = Sizes(round=100, few=1_000, many=100_000, short=50, long=5_000, tensors=5_000, repeats=9)
QUICK = Sizes(round=2, few=3, many=30, short=1, long=3, tensors=20, repeats=1)
NOISE = {
    "aggregation": {"weighting": "equal"},
    "privacy": {"clip_norm": 1.0, "noise": "client", "noise_multiplier": 100.0},
}


def rows(sizes: Sizes) -> list[Row]:
    """The commit among many clients against that among few; the optimizer's later rounds against the first."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        few, many = (
            opened.enter_context(_run(Path(folder) / str(clients), sizes, clients))
            for clients in (sizes.few, sizes.many)
        )
        commits = interleaved(sizes.repeats, few=_commit_of(few), many=_commit_of(many))
        changing = interleaved(sizes.repeats, few=_commit_of(few, changes=True), many=_commit_of(many, changes=True))
        short, long = (
            opened.enter_context(_run(Path(folder) / f"after {before}", sizes, sizes.few, before))
            for before in (sizes.short, sizes.long)
        )
        later = interleaved(sizes.repeats, short=_commit_of(short), long=_commit_of(long))
    steps = interleaved(sizes.repeats, later=seconds(_later_round_of(sizes.tensors)))
    commit = f"commit of a round of {sizes.round}, {sizes.many:,} clients"
    return [
        share(commit, commits["many"], commits["few"], f"{sizes.few:,} clients", "s", at_most(1.5)),
        share(
            f"{commit}, every mask another",
            changing["many"],
            changing["few"],
            f"{sizes.few:,} clients",
            "s",
            at_most(1.5),
        ),
        share(
            f"commit of a round of {sizes.round} with noise, after {sizes.long:,} rounds",
            later["long"],
            later["short"],
            f"after {sizes.short:,}",
            "s",
            at_most(1.5),
        ),
        share(
            f"server's optimizer, {sizes.tensors:,} tensors, a later round",
            steps["later"],
            constant(1.0),
            "a second",
            "s",
            at_most(1, of="ours"),
        ),
    ]


def _run(path: Path, sizes: Sizes, clients: int, before: int = 0) -> RunDirectory:
    """Set up a run; with rounds before, one with noise, of which it has them on record."""
    model = nn.Linear(2, 2)
    table = {
        "clients": clients,
        "clients_per_round": sizes.round,
        "rounds": before + 4 * sizes.repeats + 10,
        "strategy": {"name": "fedavg"},
        **(NOISE if before else {}),
    }
    run = RunDirectory.create(path, validate(table, "benchmark"), TensorTable.of(model), named_tensors(model))
    database, strategy = run.database, create_strategy(run.experiment)
    with database.transaction():
        for number in range(1, before + 1):
            plan = strategy.plan(number, ClientState(0))
            rows = [
                AssignmentRow(number, client, plan, Digest(""), model_file(0)) for client in strategy.sample(number)
            ]
            database.open_round(number, rows)
            _record_results(run, rows)
            database.commit_round(number, 1.0, "all results are in")
    return run


def _commit_of(run: RunDirectory, *, changes: bool = False) -> Measure:
    """Return the measure of a commit, the next round's opening included; results are put on record before it.

    Args:
        run: what is committed in.
        changes: every result has a mask that nobody had before.
    """
    coordinators = [Coordinator(run)]

    def prepare() -> Coordinator:
        with run.database.transaction():
            _record_results(run, run.database.assignments(coordinators[-1].round), changes=changes)
        coordinators.append(Coordinator(run))  # which knows of them
        if coordinators[-1].advance() is not Step.COMMIT:
            raise AssertionError("the round is not over")
        return coordinators[-1]

    return seconds(lambda coordinator: coordinator.commit(Conclusion()), prepare)


def _record_results(run: RunDirectory, rows: Sequence[AssignmentRow], *, changes: bool = False) -> None:
    nothing = pb.Evaluation(examples=1)
    metrics = pb.ClientMetrics(validation=nothing, downloaded=nothing, personalised=nothing, density=1)
    for row in rows:
        id_ = AssignmentId(row.round, row.client, 1)
        mask = Digest(sha256(str(id_).encode()).hexdigest() if changes else row.mask)
        received = Received(str(id_), 8, mask, result_file(id_), 1.0, metrics)
        run.database.add_result(id_, received)
    run.database.set_standings(
        row.standing._replace(id=AssignmentId(row.round, row.client, 1), state="done") for row in rows
    )


def _later_round_of(tensors: int) -> Callable[[], object]:
    table = TensorTable(
        tuple(TensorSpec(f"w{number}", torch.float32, (4,), "parameter", prunable=False) for number in range(tensors))
    )
    old = {spec.name: torch.ones(4) for spec in table}
    settings = ServerSettings(optimizer="adam")

    def means() -> Iterator[tuple[str, Tensor]]:
        return ((name, tensor + 1) for name, tensor in old.items())

    first = ServerOptimizer(settings, {})
    _step(first, table, old, means)
    return lambda: _step(ServerOptimizer(settings, first.state), table, old, means)


def _step(
    optimizer: ServerOptimizer,
    table: TensorTable,
    old: dict[str, Tensor],
    means: Callable[[], Iterator[tuple[str, Tensor]]],
) -> None:
    for _ in optimizer.steps(table, old, means()):
        pass
