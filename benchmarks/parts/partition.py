"""Who holds which examples, where there are very many clients: what a worker takes to know it of one of them."""

import multiprocessing as mp
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Row, Spread, at_most, constant, in_turn, share
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition import Partition


@dataclass(frozen=True)
class Sizes:
    """How many clients hold how many examples each, of how many that there are."""

    clients: int
    each: int
    examples: int
    repeats: int


FULL = Sizes(clients=80_000, each=1300, examples=60_000, repeats=3)
QUICK = Sizes(clients=100, each=20, examples=600, repeats=1)

CLASSES = 10
ALPHA = 0.5


class Dealt(NamedTuple):
    """What it took to deal."""

    first: Spread
    """Seconds until the first client's examples were known."""
    last: Spread
    """Until the last one's were, who comes after all others."""
    megabytes: float


def rows(sizes: Sizes) -> list[Row]:
    """Seconds and memory until a client's examples are known: of the last one, those of the others are known sooner."""
    kinds: dict[str, dict[str, Any]] = {
        "iid": {"examples_per_client": sizes.each},
        "n-class": {"classes_per_client": 2, "examples_per_class": sizes.each // 2},
        "dirichlet": {"examples_per_client": sizes.each, "alpha": ALPHA},
    }
    return [row for kind, keys in kinds.items() for row in _rows(sizes, {"kind": kind, **keys})]


def _rows(sizes: Sizes, settings: Mapping[str, Any]) -> list[Row]:
    draws = settings["kind"] == "dirichlet"
    label = f"{sizes.clients:,} clients × {sizes.each:,}, {settings['kind']}"
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as process:  # whose memory holds nothing else
        ours = process.submit(_deal, sizes, settings).result()
    floor = in_turn(sizes.repeats, shuffles=lambda: _shuffle(sizes), draws=lambda: _draw(sizes) if draws else 0.0)
    last = Spread(tuple(map(sum, zip(floor["shuffles"].values, floor["draws"].values, strict=True))))
    lists = constant(sizes.clients * sizes.each * 4 / 1e6)
    goal = at_most(1.0, "ours")
    memory = share(f"{label}: memory", constant(ours.megabytes), lists, "4 bytes an example", "MB", at_most(50, "ours"))
    if not draws:
        return [share(f"{label}: to the last client", ours.last, last, "shuffling as many", "s", goal), memory]
    apart, both = "a generator and a draw for each", "these draws, and shuffling as many"
    return [
        share(f"{label}: to the first client", ours.first, floor["draws"], apart, "s", goal),
        share(f"{label}: to the last client", ours.last, last, both, "s"),
        memory,
    ]


def _deal(sizes: Sizes, settings: Mapping[str, Any]) -> Dealt:
    labels = np.arange(sizes.examples) % CLASSES
    chosen = PartitionSettings(**settings)
    Partition(labels, labels, chosen, 1, seed=0).client(0)  # what is imported
    first, last, before = [], [], _resident()
    for _ in range(sizes.repeats):
        start = time.perf_counter()
        partition = Partition(labels, labels, chosen, sizes.clients, seed=0)
        partition.client(0)
        first.append(time.perf_counter() - start)
        partition.client(sizes.clients - 1)
        last.append(time.perf_counter() - start)
    return Dealt(Spread(tuple(first)), Spread(tuple(last)), (_resident() - before) / 1e6)


def _draw(sizes: Sizes) -> float:
    alpha, start = np.full(CLASSES, ALPHA), time.perf_counter()
    for client in range(sizes.clients):
        generator(0, "benchmark", client).dirichlet(alpha)
    return time.perf_counter() - start


def _shuffle(sizes: Sizes) -> float:
    rng, start = np.random.default_rng(0), time.perf_counter()
    for _ in range(-(-sizes.clients * sizes.each // sizes.examples)):
        rng.permutation(sizes.examples)
    return time.perf_counter() - start


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
