"""Texts as numbers without a vocabulary that everybody would have to agree on.

A word's number is a checksum of it (feature hashing: Weinberger et al. 2009), so that two words may have the same.
"""

import re
import zlib
from collections.abc import Iterable

import numpy as np

from lotteryfl.common.tasks.partition import IntArray

_WORD = re.compile(r"\w+")


def hashed_words(texts: Iterable[str], words: int, length: int) -> IntArray:
    """Return the first words of each text, in lower case, as numbers from 1 to `words` - 1; 0 fills what is shorter.

    Args:
        texts: what is to be numbered.
        words: different numbers, with the 0.
        length: words of a text that count.

    Returns:
        An array (texts, length).
    """
    rows = [_row(text, words, length) for text in texts]
    return np.stack(rows) if rows else np.empty((0, length), dtype=np.int64)


def _row(text: str, words: int, length: int) -> IntArray:
    found = _WORD.findall(text.lower())[:length]
    row = np.zeros(length, dtype=np.int64)
    row[: len(found)] = [1 + zlib.crc32(word.encode()) % (words - 1) for word in found]
    return row
