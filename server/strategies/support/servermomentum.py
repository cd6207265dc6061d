"""Momentum at the server where an experiment says nothing of it."""

from lotteryfl.common.experiment.settings import ServerSettings


def with_momentum(settings: ServerSettings) -> ServerSettings:
    """Return SGD with a learning rate of 0.5 and a momentum of 0.9, if the experiment names no optimizer."""
    if settings.optimizer != "none":
        return settings
    return settings.model_copy(update={"optimizer": "sgd", "lr": 0.5, "momentum": 0.9})
