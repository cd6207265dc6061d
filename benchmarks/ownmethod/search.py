"""A random search of equal size for every strategy: which settings are tried, what came of them, which are best."""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from lotteryfl import load_experiment, simulate

HERE = Path(__file__).parent
OUTPUT_LAYER = {"digits": "fc3.*", "textures": "11.*", "fashion": "fc2.*"}
"""By data set, which is also the name of its experiment file here."""
STRATEGIES = (
    "balanced-ticket", "one-ticket", "ssfl", "sub-fedavg", "hermes", "prunefl", "feddst", "dispfl", "flasc", "fedavg",
)  # fmt: skip
_FEDDST = {"first_mask": "magnitude", "densities": "erk"}
"""Where published code starts: a drawn mask of 5 % stops signals (docs/methods.md)."""
DENSITY, ROUNDS, SEED, DRAWS = 0.05, 15, 100, 6


@dataclass(frozen=True)
class Draw:
    """Settings that are tried, the same for everybody; each strategy heeds those that it has."""

    lr: float
    server_lr: float
    momentum: float
    rate: float
    """Of what is pruned or exchanged."""
    every: int
    """Rounds between exchanges."""
    gate: float
    """Accuracy from which a client prunes."""
    first: float
    """Of balanced-ticket: by how much its first mask is denser."""
    pruned_by: float
    """Of balanced-ticket: share of the rounds after which its mask is final."""


@dataclass(frozen=True)
class Tried:
    """What a strategy came to on a data set with a draw."""

    data: str
    strategy: str
    draw: Draw
    personalised: float
    downloaded: float
    shared: float | None
    seconds: float

    @property
    def goal(self) -> float:
        """What the search goes by: personalised and shared alike; as downloaded where no model is shared whole."""
        return self.personalised + (self.downloaded if self.shared is None else self.shared)


def draws() -> Iterator[Draw]:
    """Yield the settings that are tried: more of them begin with the same ones."""
    drawn = random.Random(39)  # noqa: S311 - no secret
    for _ in range(DRAWS):
        yield Draw(
            lr=round(10 ** drawn.uniform(-1.6, -0.7), 4),
            server_lr=drawn.choice([0.3, 0.5, 1.0]),
            momentum=drawn.choice([0.0, 0.5, 0.9]),
            rate=drawn.choice([0.2, 0.4, 0.6]),
            every=drawn.choice([2, 3, 5]),
            gate=drawn.choice([0.0, 0.3, 0.5]),
            first=float(drawn.choice([2, 4])),
            pruned_by=drawn.choice([0.25, 0.5]),
        )


def settings(data: str, strategy: str, draw: Draw, rounds: int) -> dict[str, Any]:
    """Return a draw as the keys of an experiment file that a strategy heeds."""
    exchange = {"strategy.readjust_rate": draw.rate}
    gated = {"strategy.prune_rate": draw.rate, "strategy.accuracy_threshold": draw.gate}
    own: dict[str, dict[str, Any]] = {
        "balanced-ticket": {
            "strategy.options.first": draw.first,
            "strategy.options.pruned_by": int(rounds * draw.pruned_by),
        },
        "one-ticket": {"strategy.personal": [OUTPUT_LAYER[data]], "evaluation.global_every": 0},
        "sub-fedavg": gated,
        "hermes": gated,
        "prunefl": exchange | {"strategy.readjust_every": draw.every},
        "feddst": exchange
        | {"strategy.readjust_every": draw.every}
        | {f"strategy.options.{key}": value for key, value in _FEDDST.items()},
        "dispfl": exchange,
    }
    server = {"server.optimizer": "sgd", "server.lr": draw.server_lr, "server.momentum": draw.momentum}
    return {"training.lr": draw.lr} | server | own.get(strategy, {})


def as_overrides(keys: dict[str, Any]) -> list[str]:
    """Return settings as `--set` takes them."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]


def search(file: Path, data_dir: str, jobs: int) -> None:
    """Try what a file does not have yet, and add a line to it for each."""
    known = {(each.data, each.strategy, each.draw) for each in read(file)}
    wanted = [(data, name, draw) for draw, data, name in product(draws(), OUTPUT_LAYER, STRATEGIES)]
    with ProcessPoolExecutor(jobs) as pool, file.open("a", encoding="utf-8") as out:
        for done in as_completed(pool.submit(partial(attempt, data_dir), *one) for one in wanted if one not in known):
            tried = done.result()
            print(json.dumps(asdict(tried)), file=out, flush=True)
            print(f"{tried.data} {tried.strategy}: {tried.goal:.3f} in {tried.seconds} s", flush=True)


def attempt(data_dir: str, data: str, strategy: str, draw: Draw) -> Tried:
    """Run one strategy with one draw."""
    keys = {"rounds": ROUNDS, "seed": SEED, "evaluation.global_every": ROUNDS, "strategy.name": strategy}
    keys |= {"strategy.target_density": DENSITY} | ({"task.data_dir": data_dir} if data == "fashion" else {})
    begun, folder = time.monotonic(), Path(tempfile.mkdtemp())
    experiment = load_experiment(HERE / f"{data}.toml", as_overrides(keys | settings(data, strategy, draw, ROUNDS)))
    try:
        with simulate(experiment, folder / "run") as run:
            accuracy, curve = run.summary()["accuracy"], run.global_curve()
    finally:
        shutil.rmtree(folder)
    return Tried(
        data=data,
        strategy=strategy,
        draw=draw,
        personalised=accuracy["personalised_last"],
        downloaded=accuracy["downloaded_last"],
        shared=float(curve["accuracy"].iloc[-1]) if len(curve) else None,
        seconds=round(time.monotonic() - begun, 1),
    )


def read(file: Path) -> list[Tried]:
    """Return what has been tried."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [Tried(**{**row, "draw": Draw(**row["draw"])}) for row in map(json.loads, lines)]


def best(tried: Sequence[Tried], data: str, strategy: str) -> Draw:
    """Return the draw by which a strategy came furthest on a data set."""
    return max(
        (each for each in tried if (each.data, each.strategy) == (data, strategy)), key=lambda one: one.goal
    ).draw
