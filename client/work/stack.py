"""Plans that are followed side by side: each to where it wants to train, then all train as one model."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

import torch

from lotteryfl.client.work.planrun import Wanted
from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.training.loop import TrainResult

T = TypeVar("T")

Work = Generator[Wanted, TrainResult, T]
"""One client's: yields what is to be trained, and takes what that did."""


def alone(work: Work[T], train: Callable[[Wanted], TrainResult]) -> T:
    """Do one client's work, which trains by itself, and return what it comes to."""
    try:
        wanted = next(work)
        while True:
            wanted = work.send(train(wanted))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def side_by_side(
    works: Mapping[int, Work[T]],
    seeds: Mapping[int, int],
    rows: int,
    train: Callable[[Sequence[Wanted | None]], Sequence[TrainResult | None]],
    device: torch.device,
) -> dict[int, T | ClientError | PayloadError]:
    """Do the work of several clients, and return by row what each comes to, or why it comes to nothing.

    A client that fails leaves its row empty. What is drawn unasked outside of training is each one's own.

    Args:
        works: by row.
        seeds: by row.
        rows: how many there are, also where not all are here.
        train: trains as many as want to, a row each.
        device: of the work.
    """
    found: dict[int, T | ClientError | PayloadError] = {}
    trained: dict[int, TrainResult | None] = dict.fromkeys(works)
    stretch = 0
    while trained:
        wanted: dict[int, Wanted] = {}
        for row, result in trained.items():
            try:
                with seeded(derive_seed(seeds[row], "unasked", *([stretch] if stretch else ())), device):
                    wanted[row] = next(works[row]) if result is None else works[row].send(result)
            except StopIteration as done:
                found[row] = done.value
            except (ClientError, PayloadError) as error:
                found[row] = error
        stretch += 1
        results = train([wanted.get(row) for row in range(rows)]) if wanted else []
        trained = {row: result for row, result in enumerate(results) if result is not None}
    return found
