"""The generators that a strategy of the user's own may draw from unasked."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.owncode.usercode import first_line, users_place
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded

_ONE_AT_A_TIME = RLock()  # the generators are the process's, and rounds are concluded beside the coordinator's thread


@contextmanager
def drawing(experiment: Experiment, purpose: str, *parts: int) -> Iterator[None]:
    """Seed the global generators of `random`, NumPy and torch for what a strategy is asked for; restore them after.

    Args:
        experiment: of the run, whose seed counts.
        purpose: what it is asked for.
        parts: which one, as the round.

    Raises:
        ExperimentError: in the place of what code of the user's own raises, and says where.
    """
    with _ONE_AT_A_TIME, seeded(derive_seed(experiment.seed, f"strategy's {purpose}", *parts)):
        try:
            yield
        except (LotteryFLError, OSError, sqlite3.Error):  # of the run directory, which is another matter
            raise
        except Exception as error:
            if not (place := users_place(error.__traceback__)):
                raise
            which = f"strategy.name = {experiment.strategy.name!r}: its {' '.join([purpose, *map(str, parts)])}"
            what = f"{type(error).__name__}: {first_line(error)}"
            raise ExperimentError(f"{which} failed at {place}: {what}") from error
