"""Strategies: one file each; policy reaches the workers as plans."""

from common.errors import ExperimentError
from common.experiment import Experiment
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
    )
}


def create_strategy(experiment: Experiment) -> Strategy:
    """Return the strategy that the experiment names.

    Raises:
        ExperimentError: there is none of that name.
    """
    name = experiment.strategy.name
    if name not in STRATEGIES:
        raise ExperimentError(f"strategy.name = {name!r}: must be one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name](experiment)
