"""What races and settings are called on a board."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lotteryfl.board.entries import Race, Setting
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings, TaskSettings
from lotteryfl.common.flattened import flattened
from lotteryfl.common.text import printable
from lotteryfl.records.record import Judged
from lotteryfl.server.results.spread import spread

_SAID = ("seed", "strategy.name", "strategy.target_density")
"""Keys that have columns of their own."""
_MOST_KEYS = 6
"""Of a setting that are named; its record has them all."""
_MOST_CHARACTERS = 60
"""Of a key's value."""


def race_title(race: Race) -> str:
    """Return what a race is: the protocol's title, or what is learned by how many clients."""
    if race.protocol:
        return f"{race.protocol.name}: {race.protocol.title}"
    experiment, is_own = race.record.experiment, bool(race.record.task_sha256)
    model = "" if is_own and experiment.task.model == TaskSettings().model else f", {experiment.task.model}"
    return printable(f"{experiment.task.name}{model}: {_dealt(experiment, is_own=is_own)}")


def race_link(race: Race, place: int) -> str:
    """Return the name of a race's section, as a link has it: no other's.

    A protocol has one race more where a record says that its runs are judged otherwise.
    """
    return race.protocol.name if race.protocol and race.record.judged == Judged() else f"other-{place}"


def point_labels(race: Race) -> list[str]:
    """Return strategy and density of each setting, as pictures name it; of those alike, what tells them apart too."""
    labels = [
        f"{strategy(each)} {spread([entry.record.density for entry in each.counted]).mean:.2g}"
        for each in race.settings
    ]
    flat = [_flat(setting) for setting in race.settings]
    found = []
    for label, table in zip(labels, flat, strict=True):
        alike = [other for other, name in zip(flat, labels, strict=True) if name == label]
        keys = [key for key in table if key not in _SAID and len(_values(key, alike)) > 1]
        found.append(f"{label}, {keys[0].rpartition('.')[2]} {_brief(table[keys[0]])}" if keys else label)
    return found


def strategy(setting: Setting) -> str:
    """Return the name of a setting's strategy."""
    return printable(setting.record.experiment.strategy.name)


def distinctions(race: Race) -> list[tuple[str, ...]]:
    """Return for each setting of a race how it differs from others of its strategy, as `key = value`."""
    flat = [_flat(setting) for setting in race.settings]
    return [
        _distinct(table, [other for other in flat if other["strategy.name"] == table["strategy.name"]])
        + _done_by(setting, race.settings)
        for table, setting in zip(flat, race.settings, strict=True)
    ]


def _flat(setting: Setting) -> dict[str, Any]:
    return dict(flattened(setting.record.experiment.model_dump(mode="json"), "."))


def _distinct(table: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    keys = [key for key in table if key not in _SAID and len(_values(key, others)) > 1]
    more = (f"{len(keys) - _MOST_KEYS} keys more",) if len(keys) > _MOST_KEYS else ()
    return tuple(f"{key} = {_brief(table[key])}" for key in keys[:_MOST_KEYS]) + more


def _brief(value: object) -> str:
    text = printable(str(value))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _values(key: str, tables: Iterable[Mapping[str, Any]]) -> set[str]:
    return {repr(table.get(key)) for table in tables}


def _done_by(setting: Setting, settings: Sequence[Setting]) -> tuple[str, ...]:
    """Say by how many workers, where bytes of one board are not all counted alike."""
    number = setting.record.workers
    if len({each.record.workers for each in settings}) == 1:
        return ()
    return (f"{number} workers" if number else "in one process",)


def _dealt(experiment: Experiment, *, is_own: bool) -> str:
    """Say how many clients there are, and how data are dealt: by most own tasks otherwise than by the default."""
    partition, new = experiment.partition, experiment.evaluation.new_clients
    kinds = {
        "n-class": f"{partition.classes_per_client} classes each",
        "dirichlet": f"Dirichlet {partition.alpha:g}",
        "class-dirichlet": f"Dirichlet {partition.alpha:g} by class",
        "quantity-skew": f"sizes by Dirichlet {partition.alpha:g}",
        "shards": f"{partition.shards_per_client} shards each",
        "file": f"dealt by {partition.file}",
    }
    told = "" if is_own and partition == PartitionSettings() else f", {kinds.get(partition.kind, partition.kind)}"
    later = f", {new} of them new in the end" if new else ""
    return f"{experiment.clients} clients, {experiment.clients_per_round} a round{told}{later}"
