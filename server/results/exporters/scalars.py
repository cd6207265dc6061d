"""What is exported of a run: its settings, and the same few series for every tracker."""

from collections.abc import Iterator, Mapping
from typing import Any

from lotteryfl.common.tasks.base import without_places
from lotteryfl.server.results.reporting.data import RunData


def scalars(run: RunData) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield, in order, every round's number and its figures by name: means over clients, bytes, seconds.

    Of a round after which the shared model was measured on global test data, that too; θ_0 is round 0. Of the last,
    what new clients made of it.
    """
    found = dict(_of_rounds(run))
    if run.curve is not None:
        for index, number in enumerate(run.curve.rounds.tolist()):
            shared = {f"{name}/shared": float(values[index]) for name, values in run.curve.values.items()}
            found[number] = found.get(number, {}) | shared
    if run.new_clients:
        both = zip(("new_downloaded", "new_personalised"), run.newcomers(), strict=True)
        found[int(run.rounds.number[-1])] |= {f"{run.score.name}/{phase}": value for phase, value in both}
    yield from sorted(found.items())


def _of_rounds(run: RunData) -> Iterator[tuple[int, dict[str, float]]]:
    rounds, judged = run.rounds, run.score.name
    for index, number in enumerate(rounds.number.tolist()):
        yield (
            number,
            {
                f"{judged}/downloaded": float(rounds.downloaded[index]),
                f"{judged}/personalised": float(rounds.personalised[index]),
                "density": float(rounds.density[index]),
                "bytes/down": float(rounds.down[index]),
                "bytes/up": float(rounds.up[index]),
                "megabytes_so_far": float(run.sent[index]),
                "seconds": float(rounds.seconds[index]),
                **{
                    f"{name}/{phase}": float(values[index])
                    for name, phases in rounds.values.items()
                    for phase, values in zip(("downloaded", "personalised"), phases, strict=True)
                },
            },
        )


def settings(run: RunData) -> dict[str, Any]:
    """Return the experiment as `section/key` → value, without who may work for it and where files lie here."""
    flat: dict[str, Any] = {}
    for key, value in without_places(run.experiment).model_dump(exclude={"access"}, exclude_none=True).items():
        flat |= {f"{key}/{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat
