"""Strategies: one file each; policy reaches the workers as plans."""

from common.errors import ExperimentError
from common.experiment import Experiment
from server.strategies.base import Strategy
from server.strategies.fedavg import FedAvg
from server.strategies.lotteryfl import LotteryFL
from server.strategies.standalone import Standalone

STRATEGIES: dict[str, type[Strategy]] = {cls.name: cls for cls in (LotteryFL, FedAvg, Standalone)}


def create_strategy(experiment: Experiment) -> Strategy:
    """Return the strategy that the experiment names.

    Raises:
        ExperimentError: there is none of that name.
    """
    name = experiment.strategy.name
    if name not in STRATEGIES:
        raise ExperimentError(f"strategy.name = {name!r}: must be one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name](experiment)
