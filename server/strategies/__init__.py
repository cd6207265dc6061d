"""Strategies: one file each; policy reaches the workers as plans."""

import inspect

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.owncode.usercode import absolute, import_source
from lotteryfl.common.seeding import seeded
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.server.strategies.apfl import APFL
from lotteryfl.server.strategies.balanced_ticket import BalancedTicket
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.cell import Cell
from lotteryfl.server.strategies.dispfl import DisPFL
from lotteryfl.server.strategies.ditto import Ditto
from lotteryfl.server.strategies.fedala import FedALA
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.fedavg_finetune import FedAvgFinetune
from lotteryfl.server.strategies.fedbabu import FedBABU
from lotteryfl.server.strategies.fedbn import FedBN
from lotteryfl.server.strategies.feddst import FedDST
from lotteryfl.server.strategies.fedltn import FedLTN
from lotteryfl.server.strategies.fedper import FedPer
from lotteryfl.server.strategies.fedpm import FedPM
from lotteryfl.server.strategies.fedprox import FedProx
from lotteryfl.server.strategies.fedrep import FedRep
from lotteryfl.server.strategies.fedrts import FedRTS
from lotteryfl.server.strategies.fedselect import FedSelect
from lotteryfl.server.strategies.fedtiny import FedTiny
from lotteryfl.server.strategies.flasc import FLASC
from lotteryfl.server.strategies.hermes import Hermes
from lotteryfl.server.strategies.heterofl import HeteroFL
from lotteryfl.server.strategies.lg_fedavg import LGFedAvg
from lotteryfl.server.strategies.lotteryfl import LotteryFL
from lotteryfl.server.strategies.one_ticket import OneTicket
from lotteryfl.server.strategies.prunefl import PruneFL
from lotteryfl.server.strategies.scaffold import Scaffold
from lotteryfl.server.strategies.spafl import SpaFL
from lotteryfl.server.strategies.sparsyfed import SparsyFed
from lotteryfl.server.strategies.ssfl import SSFL
from lotteryfl.server.strategies.standalone import Standalone
from lotteryfl.server.strategies.sub_fedavg import SubFedAvg
from lotteryfl.server.strategies.support.asked import check_hooks, unknown_hook
from lotteryfl.server.strategies.support.drawing import drawing

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls
    for cls in (
        LotteryFL,
        FedAvg,
        FedAvgFinetune,
        Standalone,
        FedProx,
        LGFedAvg,
        FedPer,
        FedBN,
        Scaffold,
        Ditto,
        APFL,
        FedALA,
        Cell,
        SubFedAvg,
        FedLTN,
        Hermes,
        FedSelect,
        SSFL,
        FedDST,
        OneTicket,
        BalancedTicket,
        HeteroFL,
        FedPM,
        SpaFL,
        FedRep,
        FedBABU,
        SparsyFed,
        DisPFL,
        PruneFL,
        FedRTS,
        FedTiny,
        FLASC,
    )
}


_BUILT_IN = frozenset(STRATEGIES)


def add_strategies(source: str) -> None:
    """Let experiments of this process name the strategies of a file or module of the user's own.

    Args:
        source: a .py file or a module's name; every class of its own that is a `Strategy` is taken.

    Raises:
        ExperimentError: it cannot be imported, holds no strategy, one without a name of its own, or one with a public
            method that nobody asks.
    """
    what = f"--strategy {source}"
    with seeded(0):  # there is no run yet
        module = import_source(what, absolute(source), ExperimentError)
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Strategy) and each.__module__ == module.__name__
    ]
    if not found:
        raise ExperimentError(f"{what}: holds no class that is a lotteryfl.server.strategies.base.Strategy")
    for each in found:
        if missing := sorted(each.__abstractmethods__):
            raise ExperimentError(f"{what}: class {each.__name__} lacks {', '.join(missing)}")
        if unknown := unknown_hook(each):
            raise ExperimentError(f"{what}: class {each.__name__}: {unknown}")
        name = getattr(each, "name", "")
        if not name or name in _BUILT_IN:
            raise ExperimentError(f"{what}: class {each.__name__} has name = {name!r}: expected one of its own")
        STRATEGIES[name] = each


def create_strategy(experiment: Experiment, score: Score = ACCURACY) -> Strategy:
    """Return the strategy that the experiment names.

    Args:
        experiment: of the run.
        score: what the run is judged by; plans and checks go by it, nothing else of a strategy.

    Raises:
        ExperimentError: there is none of that name, or the experiment never asks it what it answers.
    """
    name = experiment.strategy.name
    if name not in STRATEGIES:
        raise ExperimentError(
            f"strategy.name = {name!r}: must be one of {', '.join(STRATEGIES)}, or your own with --strategy FILE"
        )
    with drawing(experiment, "beginning"):
        strategy = STRATEGIES[name](experiment)
    strategy.score = score
    check_hooks(strategy)
    return strategy
