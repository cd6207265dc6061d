"""AG News (Zhang et al. 2015): 4 kinds of news, told by title and beginning, from CSV files.

A row is a class from 1, a title and a description. A text is its first 64 words as `common.tasks.words` numbers them.
"""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import SEQUENCES
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder, unreadable
from lotteryfl.common.tasks.words import hashed_words

_WORDS, _LENGTH, _CLASSES = SEQUENCES["ag-news"]
_MOST_ROWS = 1_000_000
_PUBLISHED = "ag_news_csv.tar.gz, to which https://github.com/zhangxiangxiao/Crepe links"


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 120,000 training and 7,600 test texts, read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    folder = find_folder(
        "ag-news",
        experiment.task.data_dir,
        (cache_dir() / "ag_news_csv",),
        f"unpack {_PUBLISHED}, there, or set task.data_dir to its folder",
    )
    return _read(folder / "train.csv"), _read(folder / "test.csv")


@cache
def _read(path: Path) -> Examples:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_row(path, number, row) for number, row in enumerate(csv.reader(file), start=1)]
    except OSError as error:
        raise unreadable(path, error, _PUBLISHED) from error
    except (ValueError, csv.Error) as error:
        raise TaskError(f"{path}: {error}") from error
    if not rows:
        raise TaskError(f"{path}: is empty")
    inputs = hashed_words((text for _, text in rows), _WORDS, _LENGTH)
    labels = np.array([label for label, _ in rows], dtype=np.int64)
    return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))


def _row(path: Path, number: int, row: list[str]) -> tuple[int, str]:
    if len(row) != 3 or row[0] not in ("1", "2", "3", "4") or number > _MOST_ROWS:
        raise TaskError(f"{path}: row {number}: expected a class from 1 to {_CLASSES}, a title, a description")
    return int(row[0]) - 1, f"{row[1]} {row[2]}"
