"""The records of a board: read, held against themselves, and put together where they differ in their seed alone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.protocols import Protocol, protocol, protocol_of
from lotteryfl.records.agreeing import disagreements
from lotteryfl.records.files import ENDING, read_record, record_files
from lotteryfl.records.marks import Way, is_marked, mark_file
from lotteryfl.records.record import Record

_BY_TRUST: tuple[Way | None, ...] = ("run again", "its run", None)


@dataclass(frozen=True)
class Entry:
    """A record on the board."""

    name: str
    """Of its file, without the ending, with the folders that it is in: what a reader finds it by."""
    file: Path
    record: Record
    verified: Way | None

    @property
    def seed(self) -> int:
        """Of its experiment."""
        return self.record.experiment.seed

    @property
    def bits(self) -> tuple[str, str]:
        """What two runs with the same bits have in common."""
        return self.record.model_sha256, self.record.tickets_sha256


@dataclass(frozen=True)
class Setting:
    """One experiment with one or more seeds."""

    members: tuple[Entry, ...]
    """By seed; of one seed those that were verified first."""

    @property
    def record(self) -> Record:
        """The one to show where one must do."""
        return self.members[0].record

    @cached_property
    def counted(self) -> tuple[Entry, ...]:
        """The members that figures are of: one for each seed."""
        by_seed: dict[int, Entry] = {}
        for member in self.members:
            by_seed.setdefault(member.seed, member)
        return tuple(by_seed.values())

    @property
    def verified(self) -> Way | None:
        """How well all that counts was verified."""
        return max((member.verified for member in self.counted), key=_BY_TRUST.index)


@dataclass(frozen=True)
class Race:
    """Settings that are comparable: of one protocol, or with the same data dealt to as many clients."""

    protocol: Protocol | None
    settings: tuple[Setting, ...]

    @property
    def record(self) -> Record:
        """The one to show where one must do."""
        return self.settings[0].record


class LeftOut(NamedTuple):
    """A file that is not on the board."""

    name: str
    why: str


class Board(NamedTuple):
    """All that a page shows."""

    races: list[Race]
    left_out: list[LeftOut]

    @property
    def entries(self) -> list[Entry]:
        """All records, in the order of the page."""
        return [entry for race in self.races for setting in race.settings for entry in setting.members]


def read_board(paths: Sequence[Path]) -> Board:
    """Read records; what is none, or does not agree with itself, is left out, and it is said why.

    Raises:
        LotteryFLError: there is no such file or folder, or no record in it.
    """
    entries, left_out = [], []
    files = record_files(paths)
    if not files:
        raise LotteryFLError(f"{', '.join(map(str, paths))}: no records: expected files of `lotteryfl submit`")
    folders = [_folder(file, paths) for file in files]
    names = [
        file.relative_to(folder).as_posix().removesuffix(ENDING) for file, folder in zip(files, folders, strict=True)
    ]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise LotteryFLError(f"{twice[0]}{ENDING}: is in two of the folders: expected names of their own")
    for name, file, folder in zip(names, files, folders, strict=True):
        try:
            _check_inside(file, folder, paths)
            entries.append(_entry(name, file))
        except LotteryFLError as error:
            left_out.append(LeftOut(name, str(error).removeprefix(f"{file}: ")))
    return Board(_races(entries), left_out)


def _folder(file: Path, paths: Iterable[Path]) -> Path:
    """Return the folder that was named, in which a file is; of one that was named itself its own."""
    return next((path for path in paths if path.is_dir() and file.is_relative_to(path)), file.parent)


def _check_inside(file: Path, folder: Path, paths: Sequence[Path]) -> None:
    """Refuse a link out of a folder: of whatever it is to, something would come to stand on the page.

    Raises:
        LotteryFLError: the file is one, and nobody has named it.
    """
    if file in paths:
        return
    if not all(each.resolve().is_relative_to(folder.resolve()) for each in (file, mark_file(file))):
        raise LotteryFLError("is, or its mark is, a link to a file elsewhere: expected a file of the folder")


def _entry(name: str, file: Path) -> Entry:
    record = read_record(file)
    if found := disagreements(record):
        raise LotteryFLError(f"does not agree with itself: {found[0]}")
    return Entry(name, file, record, is_marked(file))


def _races(entries: Iterable[Entry]) -> list[Race]:
    by_race: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for entry in sorted(entries, key=lambda each: each.name):
        settings = by_race.setdefault(_race(entry.record), {})
        settings.setdefault(_setting(entry.record), []).append(entry)
    return [
        Race(protocol(name) if name else None, tuple(_sorted(settings.values())))
        for (name, _), settings in sorted(by_race.items(), key=_in_order)
    ]


def _in_order(race: tuple[tuple[str, str], dict[str, list[Entry]]]) -> tuple[bool, str, int, str]:
    """Return what races are sorted by: protocols first, by name; then those of most settings."""
    (protocol_name, rest), settings = race
    return protocol_name == "", protocol_name, -len(settings), rest


def _race(record: Record) -> tuple[str, str]:
    """Return the name of the protocol, or '' and what data are dealt how; then by what is judged."""
    experiment = record.experiment
    if found := protocol_of(experiment):
        return found.name, record.judged.model_dump_json()
    kept = ("task", "partition", "clients", "clients_per_round")
    table = experiment.model_copy(update={"partition": experiment.partition.model_copy(update={"file": ""})})
    new = experiment.evaluation.new_clients
    return "", f"{table.model_dump_json(include=set(kept))} {new} {record.judged.model_dump_json()}"


def _setting(record: Record) -> str:
    """Return what runs have in common that differ in their seed alone."""
    return f"{record.experiment.model_copy(update={'seed': 0}).model_dump_json()} {record.workers}"


def _sorted(settings: Iterable[list[Entry]]) -> Iterator[Setting]:
    for members in settings:
        yield Setting(tuple(sorted(members, key=lambda each: (each.seed, _BY_TRUST.index(each.verified), each.name))))
