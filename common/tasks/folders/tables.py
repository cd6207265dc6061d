"""Tables: .npz files with arrays `x` and `y`, and .csv files with a column for each feature and one for the label."""

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.folders.options import Options
from lotteryfl.common.text import quoted

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]
Pair = tuple[npt.NDArray[np.float32], Labels]
"""Inputs and labels: integers, or float32 where there are no classes."""

_SUFFIXES = (".npz", ".csv")


def find_table(folder: Path, part: str) -> Path | None:
    """Return the table of a part of a client's data, of no part the only one there is; None: there is none.

    Raises:
        TaskError: there are several.
    """
    stems = folder.glob(f"{part or '*'}.*")
    found = sorted(path for path in stems if path.suffix in _SUFFIXES and path.is_file())
    if len(found) > 1:
        raise TaskError(f"{folder}: expected one table, found {', '.join(path.name for path in found)}")
    return found[0] if found else None


def read_table(path: Path, options: Options) -> Pair:
    """Read a table; bytes in a .npz file are scaled to 0 … 1.

    Raises:
        TaskError: it cannot be read, or is not what the options say.
    """
    try:
        inputs, labels = _read_npz(path) if path.suffix == ".npz" else _read_csv(path, options)
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
        raise TaskError(f"{path}: {error}") from error
    shape = ", ".join(map(str, options.shape))
    if inputs.shape[1:] != options.shape or len(inputs) == 0:
        raise TaskError(f"{path}: inputs have shape {inputs.shape}, expected (examples, {shape})")
    if labels.shape != (len(inputs),):
        raise TaskError(f"{path}: labels have shape {labels.shape}, expected ({len(inputs)},)")
    scale = np.float32(255 if inputs.dtype == np.uint8 else 1)
    rows = inputs.astype(np.float32) / scale
    if not np.isfinite(rows).all():
        raise TaskError(f"{path}: holds a number that is not finite")
    return rows, labels_of(labels, path, options)


def _read_npz(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile) or not {"x", "y"} <= set(arrays):
            raise ValueError("expected the arrays x and y")
        return arrays["x"], arrays["y"]


def _read_csv(path: Path, options: Options) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError("is empty")
    header = None if _is_number(rows[0][0]) else rows.pop(0)
    column = _label_column(header, options)
    width = len(header or rows[0])
    for line, row in enumerate(rows, start=1 + (header is not None)):
        if len(row) != width:
            raise ValueError(f"row {line} has {len(row)} columns, expected {width}")
    labels = np.array([row.pop(column) for row in rows])
    return np.array(rows, dtype=np.float32).reshape(len(rows), -1), labels


def _label_column(header: list[str] | None, options: Options) -> int:
    name = options.text("label")
    if not name:
        return -1
    if name not in (header or ()):
        raise ValueError(f"task.options.label = {quoted(name)}: there is no column of this name")
    return (header or []).index(name)


def labels_of(labels: npt.NDArray[np.generic], what: object, options: Options) -> Labels:
    """Return labels as the options say they are.

    Args:
        labels: numbers, or names of classes.
        what: whose, for the error.
        options: the task's.

    Raises:
        TaskError: they are others.
    """
    if options.names and labels.dtype.kind == "U":
        if unknown := sorted(set(labels.tolist()) - set(options.names)):
            raise TaskError(f"{what}: holds the class {quoted(unknown[0])}, expected {', '.join(options.names)}")
        return np.array([options.names.index(name) for name in labels.tolist()], dtype=np.int64)
    try:
        numbers = labels.astype(np.float64)
    except ValueError as error:
        raise TaskError(f"{what}: labels: {error}") from error
    if not options.classes:
        if not np.isfinite(numbers).all():
            raise TaskError(f"{what}: holds a label that is not finite")
        return numbers.astype(np.float32)
    wrong = numbers[~((numbers >= 0) & (numbers < options.classes) & (numbers == np.floor(numbers)))]
    if wrong.size:
        raise TaskError(f"{what}: holds the label {wrong[0]:g}, expected integers from 0 to {options.classes - 1}")
    return numbers.astype(np.int64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
