"""What a round's results are, by the strategy whose they are."""

from lotteryfl.server.strategies.base import Strategy


def returns_models(strategy: Strategy, round_: int) -> bool:
    """Say whether a training round's results are models, and so their clients' tickets: not measurements or changes."""
    return strategy.trains(round_) and not strategy.sends_changes
