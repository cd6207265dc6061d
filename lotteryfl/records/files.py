"""Record files: how they are written, byte for byte the same, and read, whoever they are from."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import RESOLVED
from lotteryfl.common.experiment.tables import explained
from lotteryfl.common.text import brief, printable
from lotteryfl.records.record import Record

ENDING = ".json"
MOST_BYTES = 1 << 18
"""Of a file: several times what a record takes."""
_MOST_FILES = 10_000
"""In a folder: beyond it somebody has named the wrong one."""


def to_text(record: Record) -> str:
    """Return a record as JSON: a line for each key of its tables, lists on one line, the same bytes every time."""
    table = record.model_dump(mode="json", exclude={"experiment": {"access": True, "task": {"data_dir"}}})
    return f"{{\n{_lines(table, ' ', _section)}\n}}\n"


def from_bytes(data: bytes, source: str) -> Record:
    """Read what `to_text` wrote, or a stranger.

    Args:
        data: of the file.
        source: where it is from, for errors.

    Raises:
        LotteryFLError: it is no record, or a newer version's.
    """
    if len(data) > MOST_BYTES:
        raise LotteryFLError(f"{source}: more than {MOST_BYTES:,} bytes: expected a record")
    try:
        with explained(Record, source, resolved=True):
            return Record.model_validate_json(data, context=RESOLVED)
    except LotteryFLError as error:
        raise LotteryFLError(printable(brief(str(error)))) from error


def read_record(path: Path) -> Record:
    """Read a record file.

    Raises:
        LotteryFLError: it cannot be read, or is none.
    """
    return from_bytes(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, of one that is too large one more than a record may have.

    Raises:
        LotteryFLError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be read: {error.strerror or error}") from error


def record_files(paths: Iterable[Path]) -> list[Path]:
    """Return record files by name: those that are named, and all in folders that are, with the folders in them.

    Raises:
        LotteryFLError: there is no such file or folder, or there are too many.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise LotteryFLError(f"{path}: there is no such file or folder")
        inside = sorted(path.rglob(f"*{ENDING}")) if path.is_dir() else [path]
        found |= dict.fromkeys(each for each in inside if is_record_file(each))
        if len(found) > _MOST_FILES:
            raise LotteryFLError(f"{path}: more than {_MOST_FILES:,} files: expected a folder of records")
    return list(found)


def is_record_file(path: Path) -> bool:
    """Tell whether a file is called as a record is, and not as what lies beside one."""
    return path.name.endswith(ENDING) and not path.name.startswith(".") and path.is_file()


def read_records(paths: Iterable[Path]) -> dict[Path, Record]:
    """Read all records of files and folders.

    Raises:
        LotteryFLError: one of them cannot be read, or is none.
    """
    return {path: read_record(path) for path in record_files(paths)}


def write_record(record: Record, path: Path) -> None:
    """Write a record, whole or not at all; its folder is made where it is missing.

    Raises:
        LotteryFLError: the record of another experiment is there, or the file cannot be written.
    """
    if path.exists() and read_record(path).experiment != record.experiment:
        raise LotteryFLError(f"{path}: holds the record of another experiment: choose another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_text(record), SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror or error}") from error


def _section(value: Any) -> str:
    return f"{{\n{_lines(value, '  ', _flat)}\n }}" if isinstance(value, dict) and value else _flat(value)


def _lines(table: dict[str, Any], indent: str, text: Any) -> str:
    return ",\n".join(f"{indent}{json.dumps(key)}: {text(value)}" for key, value in table.items())


def _flat(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
