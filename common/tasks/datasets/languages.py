"""Generated text: 8 languages, each a Markov chain over 16 symbols; the task is to say which one wrote a sequence.

A language's transition probabilities are a draw from Dirichlet(0.2) for each symbol; its texts start anywhere. How
often each symbol occurs tells four texts in five, which symbol follows which the rest: a model has to learn the order.
The texts are the same for every seed of a run.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.partition import IntArray

LANGUAGES, SYMBOLS, LENGTH = 8, 16, 32
_CONCENTRATION = 0.2
_TRAIN, _TEST = 20_000, 4_000
_SEED = 1913
"""The year of Markov's chain of the letters in Eugene Onegin."""


def load(experiment: Experiment) -> tuple[Examples, Examples]:  # noqa: ARG001 - a loader's signature
    """Return 20,000 training and 4,000 test sequences, int64 (examples, 32), equally many of each language."""
    return _generate()


def transitions() -> npt.NDArray[np.float64]:
    """Return the probabilities (language, symbol, next symbol)."""
    return generator(_SEED, "languages").dirichlet(np.full(SYMBOLS, _CONCENTRATION), (LANGUAGES, SYMBOLS))


@cache
def _generate() -> tuple[Examples, Examples]:
    return _texts("train", _TRAIN), _texts("test", _TEST)


def _texts(part: str, count: int) -> Examples:
    rng = generator(_SEED, f"languages-{part}")
    languages = rng.permutation(np.arange(count) % LANGUAGES)
    return Examples(torch.from_numpy(_walk(languages, rng)), torch.from_numpy(languages))


def _walk(languages: IntArray, rng: np.random.Generator) -> IntArray:
    """Return one sequence of each language given, all written at once, symbol by symbol."""
    cumulative = transitions().cumsum(axis=2)
    cumulative[..., -1] = 1  # whatever the rounding: no draw may come after the last symbol
    texts = np.empty((len(languages), LENGTH), dtype=np.int64)
    texts[:, 0] = rng.integers(SYMBOLS, size=len(languages))
    for place in range(1, LENGTH):
        chances = cumulative[languages, texts[:, place - 1]]
        texts[:, place] = (chances <= rng.random((len(languages), 1))).sum(axis=1)
    return texts
