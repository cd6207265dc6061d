"""Records in folders as blocks: settings in which every strategy was run, by which strategies are ranked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable
from lotteryfl.common.training.score import Score
from lotteryfl.records.files import read_records
from lotteryfl.records.record import Record

By = Literal["personalised", "downloaded", "worst_tenth", "shared", "on_global", "new_personalised"]
"""By which of a record's scores."""
BY: tuple[By, ...] = get_args(By)

_NAME = re.compile(r"(?P<label>.+)-seed\d+")
"""As `lotteryfl compare` calls its run directories, and `lotteryfl submit` records after them."""


@dataclass(frozen=True)
class Block:
    """One setting."""

    name: str
    runs: Mapping[str, Mapping[int, Record]]
    """By label and seed."""

    def seeds(self, labels: Iterable[str]) -> list[int]:
        """Return the seeds that all of some strategies were run with: others would compare luck."""
        return sorted(set.intersection(*(set(self.runs[label]) for label in labels)))

    def alike(self, labels: Iterable[str]) -> dict[str, list[Record]]:
        """Return by label the runs of those strategies that are here, with the seeds that all of them have."""
        known = [label for label in labels if label in self.runs]
        seeds = self.seeds(known) if known else []
        return {label: [self.runs[label][seed] for seed in seeds] for label in known}

    @property
    def score(self) -> Score:
        """What its runs are judged by."""
        return next(record.judged.score for seeds in self.runs.values() for record in seeds.values())

    def mean(self, label: str, seeds: Sequence[int], by: By) -> float:
        """Return a strategy's mean score over seeds.

        Raises:
            LotteryFLError: a run has not measured it.
        """
        values = [getattr(self.runs[label][seed].scores, by) for seed in seeds]
        if None in values:
            raise LotteryFLError(f"{self.name}: {label} has no score {by!r}: leave it out, or rank by another")
        return float(np.mean(values))

    def of_clients(self, label: str, seeds: Sequence[int]) -> dict[int, float]:
        """Return the personalised score of every client, its mean over seeds; empty: records do not tell it."""
        tables = [self.runs[label][seed].clients for seed in seeds]
        if None in tables:
            return {}
        scores = [dict(zip(table.client, table.personalised, strict=True)) for table in tables if table]
        common = set.intersection(*map(set, scores))
        return {client: float(np.mean([each[client] for each in scores])) for client in sorted(common)}


def blocks_of(paths: Iterable[Path]) -> list[Block]:
    """Read records as blocks: each innermost folder is one; records of the folders above it count to it too.

    Raises:
        LotteryFLError: there are no records, one cannot be read, a folder is named twice, or runs of one block are
            judged by different scores.
    """
    found: list[Block] = []
    seen: set[Path] = set()
    for root in paths:
        by_folder: dict[Path, dict[Path, Record]] = {}
        for path, record in read_records([root]).items():
            by_folder.setdefault(path.parent, {})[path] = record
        innermost = [folder for folder in by_folder if not any(folder in other.parents for other in by_folder)]
        for folder in sorted(innermost):
            if folder.resolve() in seen:
                raise LotteryFLError(f"{folder}: is in two of the folders: expected every setting once")
            seen.add(folder.resolve())
            inside = [folder, *(above for above in folder.parents if above == root or root in above.parents)]
            records = {path: record for each in inside for path, record in by_folder.get(each, {}).items()}
            found.append(_block(_name(root, folder), records))
    if not found:
        raise LotteryFLError(f"{', '.join(map(str, paths))}: no records: expected what `lotteryfl submit` writes")
    return found


def common_labels(blocks: Sequence[Block]) -> list[str]:
    """Return the strategies that all blocks have with a seed in common, in the order of the first."""
    labels = [label for label in blocks[0].runs if all(label in block.runs for block in blocks)]
    return [label for label in labels if all(set(block.runs[label]) for block in blocks)]


def _name(root: Path, folder: Path) -> str:
    inner = folder.relative_to(root).as_posix() if folder != root and root in folder.parents else ""
    return printable("/".join(filter(None, [root.resolve().name, inner])))


def _block(name: str, records: Mapping[Path, Record]) -> Block:
    runs: dict[str, dict[int, Record]] = {}
    for path, record in sorted(records.items()):
        matched = _NAME.fullmatch(path.stem)
        label = printable(matched["label"] if matched else path.stem)
        seed = record.experiment.seed
        if seed in runs.setdefault(label, {}):
            raise LotteryFLError(f"{path}: {name} has another record of {label} with seed {seed}: expected one")
        runs[label][seed] = record
    if len({record.judged for seeds in runs.values() for record in seeds.values()}) > 1:
        raise LotteryFLError(f"{name}: its runs are judged by different scores: expected runs of one task")
    return Block(name, runs)
