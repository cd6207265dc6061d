"""What is exported of a run: its settings, and the same few series for every tracker."""

from collections.abc import Iterator, Mapping
from typing import Any

from lotteryfl.server.results.reporting.data import RunData


def scalars(run: RunData) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield for every committed round its number, and its figures by name: means over clients, bytes, seconds."""
    rounds = run.rounds
    for index, number in enumerate(rounds.number.tolist()):
        yield (
            number,
            {
                "accuracy/downloaded": float(rounds.downloaded[index]),
                "accuracy/personalised": float(rounds.personalised[index]),
                "density": float(rounds.density[index]),
                "bytes/down": float(rounds.down[index]),
                "bytes/up": float(rounds.up[index]),
                "megabytes_so_far": float(run.sent[index]),
                "seconds": float(rounds.seconds[index]),
            },
        )


def settings(run: RunData) -> dict[str, Any]:
    """Return the experiment as `section/key` → value, without who may work for it."""
    flat: dict[str, Any] = {}
    for key, value in run.experiment.model_dump(exclude={"access"}).items():
        flat |= {f"{key}/{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat
