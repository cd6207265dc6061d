"""What a round comes to: the new global model from the results, and what the strategy makes of it."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.beside import Beside
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import Digester
from lotteryfl.common.tensors.file import open_file, save, save_stream
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.payload import mask_density, mask_digest
from lotteryfl.server.aggregation.aggregate import Combination, aggregate
from lotteryfl.server.aggregation.maskfile import MaskFile
from lotteryfl.server.aggregation.optimizer import ServerOptimizer
from lotteryfl.server.aggregation.update import Update, ahead_of_each
from lotteryfl.server.privacy.noise import noisy_means
from lotteryfl.server.store.keptmask import KeptMask
from lotteryfl.server.store.rundb.rows import ResultRow
from lotteryfl.server.store.rundir import NewModel, RunDirectory
from lotteryfl.server.store.runfiles import optimizer_file
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.drawing import drawing


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

    def conclude(self) -> Conclusion:
        """Write the round's global model from its results, tensor by tensor.

        Touches files only, so that it may run beside the coordinator's thread.
        """
        if not self.results:
            return Conclusion()
        run, strategy = self.run, self.strategy
        path = run.model_path(self.number)
        new_model = _Digested(run, self._new_model())
        file_digest = save_stream(path, run.table, new_model, "models")
        aggregated = open_file(path)
        with drawing(run.experiment, "next masks", self.number):
            masks = strategy.next_masks(self.number, run.table, aggregated)
        mask = None
        if masks is not None:
            mask = KeptMask(mask_digest(masks), mask_density(run.table, masks))
            run.save_masks(masks, mask.digest)
        if not strategy.trains(self.number):
            path.unlink()
            return Conclusion(mask=mask)
        if masks is not None:
            new_model = _Digested(run, _under(masks, ((spec.name, aggregated[spec.name]) for spec in run.table)))
            file_digest = save_stream(path, run.table, new_model, "models")
        return Conclusion(NewModel(new_model.digest, file_digest), mask)

    def _new_model(self) -> Iterator[tuple[str, Tensor]]:
        run, strategy = self.run, self.strategy
        old, updates = open_file(run.model_path(self.model_round)), self._updates()
        personal = strategy.personal(run.table) if strategy.trains(self.number) else frozenset[str]()
        privacy, clients = run.experiment.privacy, run.experiment.clients_per_round
        has_noise = privacy.noise == "server"
        combination = Combination(personal, counts_zeros=strategy.counts_zeros, stays_wide=has_noise, as_in_file=True)
        new = aggregate(run.table, old, updates, strategy.aggregation(self.number), combination)
        if has_noise:
            new = noisy_means(old, new, updates[0].masks, privacy, results=len(updates), clients=clients)
        if strategy.optimizes(self.number):
            before = run.path / optimizer_file(self.model_round)
            optimizer = ServerOptimizer(strategy.server_optimizer(), open_file(before) if before.exists() else {})
            new = _optimized(optimizer, run, old, new, run.path / optimizer_file(self.number))
        if strategy.starts_under == "shared mask":
            new = _under(_kept_by_anyone(updates), new)
        return new

    def _merit(self, row: ResultRow) -> tuple[float, int]:
        """Return what is the greatest of the best result."""
        judged = row.validation_score
        return -math.inf if judged is None else self.run.score.rank(judged), -row.client

    def _updates(self) -> list[Update]:
        run, results = self.run, self.results
        if self.strategy.takes_best(self.number):
            results = [max(results, key=self._merit)]
        ahead = ahead_of_each(len(results))
        masks: dict[Digest, Masks] = {Digest(""): {}}  # clients may have one in common
        for row in results:
            if row.mask not in masks:
                masks[row.mask] = MaskFile(run.table, run.mask_path(row.mask), ahead)
        files = (PartFile(run.tensor_path(row.file), ahead=ahead) for row in results)
        return [
            Update(row.client, row.examples, masks[row.mask], file, row.scale)
            for row, file in zip(results, files, strict=True)
        ]


class _Digested:
    """A new model's tensors, whose `model_sha256` is made of each, in name order, while the next one is."""

    digest: Digest
    """Of the whole model, what is frozen included; known when all tensors have been taken."""

    def __init__(self, run: RunDirectory, tensors: Iterator[tuple[str, Tensor]]) -> None:
        self._tensors = tensors
        self._held = run.with_frozen({})  # until it is their turn
        self._due = deque(sorted(spec.name for spec in run.model_table))
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


def _under(masks: Masks, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        kept = packedmasks.unpack(masks[name], tensor.shape) if name in masks else None
        yield name, tensor if kept is None else tensor.masked_fill(~kept, 0)
