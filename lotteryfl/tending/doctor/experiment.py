"""Whether an experiment can be set up here: its file, its strategy, its model, and the data of a client."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.tending.doctor.check import Check, looked


def checks_of_experiment(path: Path, overrides: Sequence[str], tasks: Sequence[str]) -> Iterator[Check]:
    """Look at an experiment file, and at what it names.

    Args:
        path: the file.
        overrides: of its keys.
        tasks: of the user's own that are allowed here, beside its own.
    """
    found: list[Experiment] = []

    def read() -> Iterator[Check]:
        found.append(load(path, overrides))
        experiment = found[0]
        yield Check("ok", "experiment", f"{path}: {experiment.clients} clients, {experiment.rounds} rounds")

    yield from looked("experiment", read, "`lotteryfl init` writes one with every key")
    for experiment in found:
        yield from checks_of_work(experiment, tasks)


def checks_of_work(experiment: Experiment, tasks: Sequence[str]) -> Iterator[Check]:
    """Look at what an experiment, wherever it was read, needs on this machine."""
    yield from looked("strategy", partial(_strategy, experiment), "name its file with --strategy, if it is your own")
    remedy = "docs/data.md says where data are looked for, docs/own-work.md what a task of your own gives"
    yield from looked("data", partial(_data, experiment, tasks), remedy)


def _strategy(experiment: Experiment) -> Iterator[Check]:
    from lotteryfl.server.strategies import create_strategy

    yield Check("ok", "strategy", create_strategy(experiment).name)


def _data(experiment: Experiment, tasks: Sequence[str]) -> Iterator[Check]:
    from lotteryfl.common.tasks import load_task, own_sources

    task = load_task(experiment, (*own_sources(experiment), *tasks))
    model = task.model()
    yield Check("ok", "model", f"{task.name}: {sum(each.numel() for each in model.parameters())} parameters")
    data = task.client_data(0)
    sizes = [len(cast(Any, part)) for part in (data.train, data.validation, data.test)]
    yield Check(
        "ok", "data", f"{task.name}: client 0 has {sizes[0]} training, {sizes[1]} validation, {sizes[2]} test examples"
    )
