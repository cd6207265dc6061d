"""Records as strangers could write them, made of one of a real run."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.records.files import from_bytes, to_text
from lotteryfl.records.record import Record


def like(record: Record, sections: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Record:
    """The same record with other values: of its own keys, and of those in its tables."""
    table: dict[str, Any] = json.loads(to_text(record)) | keys
    for name, values in (sections or {}).items():
        inner = table
        for step in name.split("."):
            inner = inner[step]
        inner |= values
    return from_bytes(json.dumps(table).encode(), "test")


def rival(record: Record, name: str, seed: int, score: float, sent: int) -> Record:
    """A record of another strategy, which agrees with itself: every client and round has this score."""
    rounds, clients = len(record.rounds.round), 3
    return like(
        record,
        {
            "experiment": {"seed": seed},
            "experiment.strategy": {"name": name},
            "scores": {
                **dict.fromkeys(("personalised", "personalised_best", "worst_tenth"), score),
                **dict.fromkeys(("downloaded", "downloaded_best"), score / 2),
            },
            "rounds": {
                "sent": [sent // rounds * place for place in range(1, rounds)] + [sent],
                "personalised": [score] * rounds,
                "downloaded": [score / 2] * rounds,
                "density": [0.5] * rounds,
            },
            "clients": {
                "client": list(range(clients)),
                "personalised": [score] * clients,
                "downloaded": [score / 2] * clients,
                "density": [0.5] * clients,
            },
        },
        density=0.5,
        down=sent // 2,
        up=sent - sent // 2,
        model_sha256=sha256(f"{name} {seed}".encode()).hexdigest(),
    )


def of_experiment(record: Record, experiment: Experiment) -> Record:
    """A record of another experiment, without new clients, that agrees with itself: all its rounds are as the last."""
    rounds, scores = experiment.rounds + 1, record.scores
    last = {key: [values[-1]] * rounds for key, values in record.rounds.model_dump().items()}
    return like(
        record,
        {
            "rounds": last | {"round": list(range(1, rounds + 1))},
            "scores": {
                "personalised_best": scores.personalised,
                "downloaded_best": scores.downloaded,
                **dict.fromkeys(("new_downloaded", "new_personalised")),
            },
        },
        experiment=experiment.model_dump(mode="json", exclude={"access": True, "task": {"data_dir"}}),
    )


def write(folder: Path, records: dict[str, Record]) -> Path:
    for name, record in records.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_text(record))
    return folder
