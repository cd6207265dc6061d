"""docs/own-method.md: each strategy tuned by the same draws on one seed, then run with its best one on three others.

    python -m benchmarks.ownmethod [--out DIR] [--rounds 30] [--tables]

What is in DIR/runs.jsonl already is not run again: it may be stopped and started; the page's are in
results/own-method. Fashion-MNIST is looked for in the usual places, or in --data-dir.
"""

import argparse
import json
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from lotteryfl import load_experiment, simulate

HERE = Path(__file__).parent
DATA = {"digits": "fc3.*", "textures": "11.*", "fashion": "fc2.*"}
"""By name of the experiment file, the output layer."""
STRATEGIES = ("balanced-ticket", "one-ticket", "ssfl", "sub-fedavg", "feddst", "dispfl", "fedavg")
WITHOUT = {
    "log π": {"strategy.options.prior": 0.0},
    "stages": {"strategy.options.first": 1.0, "strategy.options.pruned_by": 1},
    "momentum": {"server.lr": 1.0, "server.momentum": 0.0},
}
"""What balanced-ticket is run without, beside the run with all."""
DRAWS, TUNED_ON, SEEDS = 3, 100, (0, 1, 2)
Row = dict[str, Any]


def draws() -> Iterator[dict[str, Any]]:
    """Yield the settings that are tried, the same for everybody; each strategy heeds those that it has."""
    drawn = random.Random(39)  # noqa: S311 - no secret
    for _ in range(DRAWS):
        yield {
            "lr": round(10 ** drawn.uniform(-1.6, -0.7), 4),
            "slr": drawn.choice([0.3, 0.5, 1.0]),
            "mom": drawn.choice([0.0, 0.5, 0.9]),
            "rate": drawn.choice([0.2, 0.4, 0.6]),
            "every": drawn.choice([2, 3, 5]),
            "gate": drawn.choice([0.0, 0.3, 0.5]),
            "start": drawn.choice([2, 4]),
            "share": drawn.choice([0.25, 0.5]),
        }


def changes(strategy: str, data: str, density: float, drawn: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Return an experiment's settings by key."""
    common: dict[str, Any] = {"rounds": rounds, "evaluation.global_every": rounds, "strategy.target_density": density}
    common |= {"training.lr": drawn["lr"], "server.optimizer": "sgd"}
    common |= {"server.lr": drawn["slr"], "server.momentum": drawn["mom"], "strategy.name": strategy}
    exchange = {"strategy.readjust_rate": drawn["rate"]}
    own: dict[str, dict[str, Any]] = {
        "balanced-ticket": {
            "strategy.options.first": float(drawn["start"]),
            "strategy.options.pruned_by": int(rounds * drawn["share"]),
        },
        "one-ticket": {"strategy.personal": [DATA[data]], "evaluation.global_every": 0},
        "feddst": {**exchange, "strategy.readjust_every": drawn["every"]},
        "dispfl": exchange,
        "sub-fedavg": {"strategy.prune_rate": drawn["rate"], "strategy.accuracy_threshold": drawn["gate"]},
    }
    return common | own.get(strategy, {})


def measured(data: str, settings: dict[str, Any], seed: int, out: Path) -> Row:
    """Run an experiment, and return what it came to."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in {**settings, "seed": seed}.items()]
    shutil.rmtree(out / "run", ignore_errors=True)
    begun = time.monotonic()
    with simulate(load_experiment(HERE / f"{data}.toml", overrides), out / "run") as run:
        summary, curve = run.summary(), run.global_curve()
    shutil.rmtree(out / "run")
    accuracy, moved = summary["accuracy"], summary["bytes"]
    return {
        "down": accuracy["downloaded_last"],
        "pers": accuracy["personalised_last"],
        "worst": accuracy["personalised_worst_decile"],
        "shared": float(curve["accuracy"].iloc[-1]) if len(curve) else None,
        "mb": (moved["down"] + moved["up"]) / 1e6,
        "real": summary["density"]["mean"],
        "s": round(time.monotonic() - begun, 1),
    }


def goal(row: Row) -> float:
    """Return what tuning goes by: personalised and shared alike; as downloaded where no model is shared whole."""
    return float(row["pers"] + (row["down"] if row["shared"] is None else row["shared"]))


class Runs:
    """What has been run, in a file."""

    def __init__(self, out: Path, data_dir: str = "") -> None:
        self._out, self._file, self._data_dir = out, out / "runs.jsonl", data_dir
        out.mkdir(parents=True, exist_ok=True)
        self.rows: list[Row] = []
        if self._file.exists():
            self.rows = [json.loads(line) for line in self._file.read_text("utf-8").splitlines()]

    def found(self, **key: Any) -> list[Row]:
        """Return the rows of some runs."""
        return [row for row in self.rows if all(row[name] == value for name, value in key.items())]

    def run(self, settings: dict[str, Any], **key: Any) -> None:
        """Run what has not been."""
        if self.found(**key):
            return
        settings = {**settings, "task.data_dir": self._data_dir} if key["data"] == "fashion" else settings
        row = {**key, **measured(key["data"], settings, key["seed"], self._out)}
        self.rows.append(row)
        with self._file.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)
        print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}, flush=True)


def tune(runs: Runs, density: float, rounds: int) -> None:
    """Try each draw in half of the rounds."""
    for drawn in draws():
        for data in DATA:
            for name in STRATEGIES:
                settings = changes(name, data, density, drawn, rounds)
                key = {"data": data, "method": name, "density": density, "params": drawn}
                runs.run(settings, **key, rounds=rounds, seed=TUNED_ON)


def compare(runs: Runs, names: Iterable[str], density: float, rounds: int) -> None:
    """Run each by the best draw of its strategy."""
    for seed, data, name in product(SEEDS, DATA, names):
        strategy = "balanced-ticket" if name in WITHOUT else name
        drawn = max(runs.found(data=data, method=strategy, seed=TUNED_ON), key=goal)["params"]
        settings = changes(strategy, data, density, drawn, rounds) | WITHOUT.get(name, {})
        key = {"data": data, "method": name, "density": density, "params": drawn}
        runs.run(settings, **key, rounds=rounds, seed=seed)


def table(runs: Runs, data: str, density: float) -> str:
    """Return mean ± standard deviation over the seeds, as Markdown."""
    lines = ["| | personalised | worst 10 % | downloaded | shared | density | MB | seeds |", "| --- " * 8 + "|"]
    for name in (*STRATEGIES, *WITHOUT):
        rows = [row for row in runs.found(data=data, method=name, density=density) if row["seed"] in SEEDS]
        if not rows:
            continue
        cells = [_cell([row[key] for row in rows]) for key in ("pers", "worst", "down", "shared")]
        kept, sent = (statistics.mean(row[key] for row in rows) for key in ("real", "mb"))
        label = f"without {name}" if name in WITHOUT else f"`{name}`"
        lines.append(f"| {label} | {' | '.join(cells)} | {kept:.2f} | {sent:.1f} | {len(rows)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    spread = f" ± {statistics.pstdev(there):.3f}" if len(there) > 1 else ""
    return f"{statistics.mean(there):.3f}{spread}"


def main() -> None:
    """Tune, compare, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ownmethod", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/own-method"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.1], help="tuned at the first one")
    parser.add_argument("--tables", action="store_true", help="of what there is; runs nothing")
    parser.add_argument("--data-dir", default="", help="with Fashion-MNIST's files")
    options = parser.parse_args()
    runs = Runs(options.out, options.data_dir)
    if not options.tables:
        tune(runs, options.densities[0], options.rounds // 2)
    for density in options.densities:
        for names in (STRATEGIES[:3], STRATEGIES[3:], WITHOUT) if not options.tables else ():
            compare(runs, names, density, options.rounds)
        for data in DATA:
            print(f"\n{data}, density {density}\n\n{table(runs, data, density)}")


if __name__ == "__main__":
    main()
