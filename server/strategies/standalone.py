"""Standalone: every client trains alone from θ_0; the baseline that shares nothing."""

from lotteryfl.server.strategies.fedavg import FedAvg


class Standalone(FedAvg):
    """FedAvg's local training without its mean: a client goes on from its own last result."""

    name = "standalone"
    aggregates = False
