"""What a round comes to: the new global model from the results, and what the strategy makes of it."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.beside import Beside
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import Digester
from lotteryfl.common.telemetry.tracing import span
from lotteryfl.common.tensors.file import open_file, save, save_stream
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.clientresult import ClientResult
from lotteryfl.common.wire.payload import mask_density, mask_digest
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.aggregation.aggregate import Combination, aggregate
from lotteryfl.server.aggregation.changes import moved, narrowed, unmoved
from lotteryfl.server.aggregation.maskfile import MaskFile
from lotteryfl.server.aggregation.optimizer import ServerOptimizer
from lotteryfl.server.aggregation.strategyvalues import as_put_together, sent
from lotteryfl.server.aggregation.update import Update, ahead_of_each
from lotteryfl.server.privacy.noise import noisy_means
from lotteryfl.server.store.keptmask import KeptMask
from lotteryfl.server.store.rundb.history import results_of_round
from lotteryfl.server.store.rundb.rows import ResultRow
from lotteryfl.server.store.rundir import NewModel, RunDirectory
from lotteryfl.server.store.runfiles import come_up_file, optimizer_file
from lotteryfl.server.strategies.base import RoundOutcome, Strategy
from lotteryfl.server.strategies.support.asked import after_round, has_own, weights
from lotteryfl.server.strategies.support.drawing import drawing


class Conclusion(NamedTuple):
    """What is committed with a round; its files are on disk."""

    model: NewModel | None = None
    """The new global model; None: the old one stays."""
    mask: KeptMask | None = None
    """The mask that every client starts from from now on; None: as before."""


@dataclass(frozen=True)
class ClosedRound:
    """A round that is over: nothing more counts in it, and it waits for its conclusion."""

    run: RunDirectory
    strategy: Strategy
    number: int
    """The round's number, from 1."""
    results: Sequence[ResultRow]
    """Results that are put together, in client order; none: the global model stays."""
    model_round: int
    """The round of the global model that the results started from."""
    seen: Sequence[ClientResult] = ()
    """The same results with their metrics, where the strategy goes by them."""
    before: Mapping[int, Digest] = field(default_factory=dict)
    """By client the masks that its work began under, where what it has grown since does not count."""

    @classmethod
    def of(cls, run: RunDirectory, strategy: Strategy, number: int, *, is_final: bool) -> Self:
        """Read what a round is concluded from, in the coordinator's thread."""
        if is_final or not strategy.aggregates:
            return cls(run, strategy, number, (), run.model_round)
        seen: list[ClientResult] = []
        if has_own(strategy, "weight") or has_own(strategy, "after_round"):
            seen = results_of_round(run.database, number, hides_loss=run.experiment.privacy.hides_loss)
        began = () if strategy.counts_grown else run.database.assignments(number)
        before = {row.client: row.mask for row in began}
        return cls(run, strategy, number, run.database.results(number), run.model_round, seen, before)

    def conclude(self) -> Conclusion:
        """Write the round's global model from its results, tensor by tensor.

        Touches files only, so that it may run beside the coordinator's thread.
        """
        with span("aggregate", results=len(self.results)):
            return self._concluded() if self.results else Conclusion()

    def _concluded(self) -> Conclusion:
        run, strategy = self.run, self.strategy
        path, table, updates = run.model_path(self.number), run.table.lasting, self._updates()
        new_model = _Digested(run, self._new_model(updates))
        file_digest = save_stream(path, table, new_model, "models")
        new = open_file(path)
        put_together = {spec.name: new[spec.name] for spec in table if spec.role != "own"}
        aggregated = put_together | self._come_up(updates)
        values = self._values_instead(updates, aggregated)
        aggregated |= values
        with drawing(run.experiment, "next masks", self.number):
            masks = strategy.next_masks(self.number, table.model, aggregated)
        mask = None
        if masks is not None:
            mask = KeptMask(mask_digest(masks), mask_density(table, masks))
            run.save_masks(masks, mask.digest)
        if not strategy.trains(self.number):
            path.unlink()
            return Conclusion(mask=mask)
        pruned = None if strategy.starts_under == "sent mask" else masks
        if pruned is not None or values:
            final = ((spec.name, values.get(spec.name, new[spec.name])) for spec in table)
            new_model = _Digested(run, _under(pruned or {}, table, final))
            file_digest = save_stream(path, table, new_model, "models")
        return Conclusion(NewModel(new_model.digest, file_digest), mask)

    def _values_instead(self, updates: Sequence[Update], aggregated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by name what the strategy puts in the place of what was aggregated; what no client keeps stays 0."""
        run, strategy, table = self.run, self.strategy, self.run.table.lasting
        if not has_own(strategy, "after_round"):
            return {}
        before = open_file(run.model_path(self.model_round))
        outcome = RoundOutcome(self.number, self.seen, table, before, aggregated)
        with drawing(run.experiment, "look at a round", self.number):
            values = after_round(strategy, outcome)
        kept = _kept_by_anyone(updates) if values and strategy.starts_under == "shared mask" else {}
        return dict(_under(kept, table, values.items()))

    def _new_model(self, updates: Sequence[Update]) -> Iterator[tuple[str, Tensor]]:
        run, strategy, table = self.run, self.strategy, self.run.table.lasting
        old = open_file(run.model_path(self.model_round))
        personal = strategy.personal(table.model) if strategy.trains(self.number) else frozenset[str]()
        privacy, clients = run.experiment.privacy, run.experiment.clients_per_round
        has_noise = privacy.noise == "server"
        combination = Combination(
            personal,
            counts_zeros=strategy.counts_zeros,
            stays_wide=has_noise or strategy.sends_changes,
            as_in_file=True,
        )
        start = unmoved(table, old) if strategy.sends_changes else old
        new = aggregate(table, start, updates, strategy.aggregation(self.number), combination)
        if strategy.sends_changes:
            new = moved(table, old, new)
        if has_noise:
            new = noisy_means(old, new, updates[0].masks, privacy, results=len(updates), clients=clients)
        if strategy.optimizes(self.number):
            before = run.path / optimizer_file(self.model_round)
            optimizer = ServerOptimizer(strategy.server_optimizer(), open_file(before) if before.exists() else {})
            new = _optimized(optimizer, run, old, new, run.path / optimizer_file(self.number))
        if strategy.sends_changes:
            new = narrowed(table, new)
        if strategy.starts_under == "shared mask":
            new = _under(_kept_by_anyone(updates), table, new)
        return new

    def _come_up(self, updates: Sequence[Update]) -> dict[str, Tensor]:
        """Return what the strategy's tensors that only go up came to, mapped from a file that is gone again."""
        run = self.run
        specs = sent((spec for spec in run.table.added if spec.role == "up"), updates)
        if not specs:
            return {}
        before = {spec.name: torch.tensor(spec.fill, dtype=spec.dtype).expand(spec.shape) for spec in specs}
        values = aggregate(TensorTable(tuple(specs)), before, updates, self.strategy.aggregation(self.number))
        path = run.path / come_up_file(self.number)
        save_stream(path, map(as_put_together, specs), values, "models")
        found = open_file(path)
        path.unlink()
        return found

    def _merit(self, row: ResultRow) -> tuple[float, int]:
        """Return what is the greatest of the best result."""
        judged = row.validation_score
        return -math.inf if judged is None else self.run.score.rank(judged), -row.client

    def _updates(self) -> list[Update]:
        run, results, weight_of = self.run, self.results, self._weights()
        if self.strategy.takes_best(self.number):
            results = [max(results, key=self._merit)]
        results = [row for row in results if weight_of.get(row.client) != 0]
        before = {row.client: self.before[row.client] for row in results if row.client in self.before}
        ahead = ahead_of_each(len(results) + len(before))
        masks: dict[Digest, Masks] = {Digest(""): {}}  # clients may have one in common
        for digest in (*(row.mask for row in results), *before.values()):
            if digest not in masks:
                masks[digest] = MaskFile(run.table, run.mask_path(digest), ahead)
        files = (PartFile(run.tensor_path(row.file), ahead=ahead) for row in results)
        return [
            Update(
                row.client,
                row.examples,
                masks[row.mask],
                file,
                row.scale,
                weight_of.get(row.client),
                masks[before[row.client]] if row.client in before else None,
            )
            for row, file in zip(results, files, strict=True)
        ]

    def _weights(self) -> dict[int, float]:
        """Return by client what the strategy weighs it by; none: it leaves that to the examples, or takes the best."""
        if self.strategy.takes_best(self.number) or not has_own(self.strategy, "weight"):
            return {}
        with drawing(self.run.experiment, "weights", self.number):
            found = weights(self.strategy, self.seen)
        return {result.client: weight for result, weight in zip(self.seen, found, strict=True)}


class _Digested:
    """A new model's tensors, whose `model_sha256` is made of each, in name order, while the next one is."""

    digest: Digest
    """Of the whole model, what is frozen included; known when all tensors have been taken."""

    def __init__(self, run: RunDirectory, tensors: Iterator[tuple[str, Tensor]]) -> None:
        self._tensors = tensors
        self._held = run.with_frozen({})  # until it is their turn
        self._due = deque(sorted(spec.name for spec in run.model_table.lasting))
        self._digester = Digester()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        with Beside() as beside:
            for name, tensor in self._tensors:
                beside.give(tensor.nbytes, partial(self._add, name, tensor))
                yield name, tensor
            beside.finish()
        self.digest = self._digester.digest()

    def _add(self, name: str, tensor: Tensor) -> None:
        self._held[name] = tensor
        while self._due and self._due[0] in self._held:
            name = self._due.popleft()
            self._digester.add(name, self._held.pop(name))


def _optimized(
    optimizer: ServerOptimizer,
    run: RunDirectory,
    old: Mapping[str, Tensor],
    means: Iterator[tuple[str, Tensor]],
    state: Path,
) -> Iterator[tuple[str, Tensor]]:
    yield from optimizer.steps(run.table, old, means)
    save(state, optimizer.state, "models")


def _kept_by_anyone(updates: Sequence[Update]) -> Masks:
    """Return where the clients' masks keep something together; of a tensor that one sent whole, no mask."""
    names = set.intersection(*(set(update.masks) for update in updates))
    return {name: reduce(np.bitwise_or, (update.masks[name] for update in updates)) for name in names}


def _under(masks: Masks, table: TensorTable, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        packed = masks.get(table[name].under)
        kept = None if packed is None else packedmasks.unpack(packed, tensor.shape)
        yield name, tensor if kept is None else tensor.masked_fill(~kept, 0)
