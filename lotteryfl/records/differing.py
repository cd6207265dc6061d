"""In what two records differ: field by field, as people read it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lotteryfl.common.experiment.differences import first_difference
from lotteryfl.common.text import quoted
from lotteryfl.records.record import Record

_MADE = {"lotteryfl_record", "protocol", "made", "strategy_sha256"}
"""What is not of the run, but of who made its record, and when."""

_AGAIN = {"withheld", "seconds", "left_out"}
"""What another run of the same experiment has of its own."""

_SENT = {"down", "up", "workers", "rounds.sent"}
"""What depends on how many workers did the work."""


class Difference(NamedTuple):
    """A field that was recorded otherwise than it is found now."""

    field: str
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: recorded {self.recorded}, found {self.found}"


def differences(recorded: Record, found: Record, *, is_same_run: bool) -> list[Difference]:
    """Return the fields in which a record is not what is found now.

    Args:
        recorded: the record.
        found: made anew.
        is_same_run: of the same run directory; otherwise of another run of the experiment: then its time is its own,
            and its bytes are held against the record's where both did the work in one process.
    """
    ignored = set(_MADE) if is_same_run else _MADE | _AGAIN
    if not is_same_run and (recorded.workers or found.workers):
        ignored |= _SENT
    tables = (_fields(recorded), _fields(found))
    return [*_of_experiments(recorded, found), *_between(*tables, ignored)]


def _of_experiments(recorded: Record, found: Record) -> Iterator[Difference]:
    if difference := first_difference(found.experiment, recorded.experiment):
        yield Difference(f"experiment.{difference.key}", difference.expected, difference.found)


def _fields(record: Record) -> dict[str, Any]:
    """Return what a record holds beside its experiment, by field; its tables' fields each by itself."""
    table = record.model_dump(exclude={"experiment"})
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _between(recorded: Mapping[str, Any], found: Mapping[str, Any], ignored: set[str]) -> Iterator[Difference]:
    for field in [*recorded, *(field for field in found if field not in recorded)]:
        if field in ignored or field.partition(".")[0] in ignored:
            continue
        was, now = recorded.get(field), found.get(field)
        if was == now:
            continue
        if (
            isinstance(was, Sequence)
            and isinstance(now, Sequence)
            and not isinstance(was, str)
            and len(was) == len(now)
        ):
            yield _of_lists(field, was, now)
        else:
            yield Difference(field, quoted(was), quoted(now))


def _of_lists(field: str, recorded: Sequence[Any], found: Sequence[Any]) -> Difference:
    places = [at for at, (was, now) in enumerate(zip(recorded, found, strict=True)) if was != now]
    first, more = places[0], f" ({len(places)} of {len(recorded)} differ)" if len(places) > 1 else ""
    return Difference(f"{field}[{first}]", quoted(recorded[first]), f"{quoted(found[first])}{more}")
