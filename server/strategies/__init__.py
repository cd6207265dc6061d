"""Strategies: one file each; policy reaches the workers as plans."""

import inspect

from common.errors import ExperimentError
from common.experiment import Experiment
from common.usercode import absolute, import_source
from server.strategies.base import Strategy
from server.strategies.cell import Cell
from server.strategies.fedavg import FedAvg
from server.strategies.fedavg_finetune import FedAvgFinetune
from server.strategies.feddst import FedDST
from server.strategies.fedltn import FedLTN
from server.strategies.fedprox import FedProx
from server.strategies.fedselect import FedSelect
from server.strategies.hermes import Hermes
from server.strategies.lg_fedavg import LGFedAvg
from server.strategies.lotteryfl import LotteryFL
from server.strategies.one_ticket import OneTicket
from server.strategies.ssfl import SSFL
from server.strategies.standalone import Standalone
from server.strategies.sub_fedavg import SubFedAvg

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls
    for cls in (
        LotteryFL,
        FedAvg,
        FedAvgFinetune,
        Standalone,
        FedProx,
        LGFedAvg,
        Cell,
        SubFedAvg,
        FedLTN,
        Hermes,
        FedSelect,
        SSFL,
        FedDST,
        OneTicket,
    )
}


_BUILT_IN = frozenset(STRATEGIES)


def add_strategies(source: str) -> None:
    """Let experiments of this process name the strategies of a file or module of the user's own.

    Args:
        source: a .py file or a module's name; every class of its own that is a `Strategy` is taken.

    Raises:
        ExperimentError: it cannot be imported, holds no strategy, or one without a name of its own.
    """
    what = f"--strategy {source}"
    module = import_source(what, absolute(source), ExperimentError)
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Strategy) and each.__module__ == module.__name__
    ]
    if not found:
        raise ExperimentError(f"{what}: holds no class that is a server.strategies.base.Strategy")
    for each in found:
        if missing := sorted(each.__abstractmethods__):
            raise ExperimentError(f"{what}: class {each.__name__} lacks {', '.join(missing)}")
        name = getattr(each, "name", "")
        if not name or name in _BUILT_IN:
            raise ExperimentError(f"{what}: class {each.__name__} has name = {name!r}: expected one of its own")
        STRATEGIES[name] = each


def create_strategy(experiment: Experiment) -> Strategy:
    """Return the strategy that the experiment names.

    Raises:
        ExperimentError: there is none of that name.
    """
    name = experiment.strategy.name
    if name not in STRATEGIES:
        raise ExperimentError(
            f"strategy.name = {name!r}: must be one of {', '.join(STRATEGIES)}, or your own with --strategy FILE"
        )
    return STRATEGIES[name](experiment)
