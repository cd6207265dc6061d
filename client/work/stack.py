"""Plans that are followed side by side: each to where it wants to train, then all train as one model."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import Context
from typing import TypeVar

import torch

from lotteryfl.client.work.planrun import Wanted
from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.telemetry.tracing import each_of, span
from lotteryfl.common.training.loop import TrainResult
from lotteryfl.common.training.stacked.courses import Failure

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
    contexts: Mapping[int, Context],
    rows: int,
    seed: int,
    train: Callable[[Sequence[Wanted | None], int], Sequence[TrainResult | Failure | None]],
    device: torch.device,
) -> dict[int, T | ClientError | PayloadError]:
    """Do the work of several clients, and return by row what each comes to, or why it comes to nothing.

    A client that fails leaves its row empty; where training fails as a whole, it fails for those who wanted it. What is
    drawn unasked outside of training is each one's own, and in training the stack's, whoever is there of it.

    Args:
        works: by row.
        seeds: by row.
        contexts: by row, in which its own work runs.
        rows: how many there are, also where not all are here.
        seed: of the stack, whoever is here.
        train: trains as many as want to, a row each, from a seed, and returns what is a row's own failure too.
        device: of the work.
    """
    found: dict[int, T | ClientError | PayloadError] = {}
    trained: dict[int, TrainResult | Failure | None] = dict.fromkeys(works)
    stretch = 0
    while trained:
        wanted: dict[int, Wanted] = {}
        for row, result in trained.items():
            try:
                with seeded(derive_seed(seeds[row], "unasked", *([stretch] if stretch else ())), device):
                    wanted[row] = contexts[row].run(_go_on, works[row], result)
            except StopIteration as done:
                found[row] = done.value
            except (ClientError, PayloadError) as error:
                found[row] = error
        together = derive_seed(seed, "together", stretch)
        stretch += 1
        try:
            with seeded(together, device), each_of(contexts[row].run(span, "train") for row in wanted):
                results = train([wanted.get(row) for row in range(rows)], together) if wanted else []
        except (ClientError, PayloadError) as error:
            return found | dict.fromkeys(wanted, error)
        trained = {row: result for row, result in enumerate(results) if result is not None}
    return found


def _go_on(work: Work[T], result: TrainResult | Failure | None) -> Wanted:
    """Go on to what is to be trained next; a failure arises where its training was wanted, in its client's name."""
    if result is None:
        return next(work)
    return work.send(result) if isinstance(result, TrainResult) else work.throw(result)
