"""Federated training of sparse, personalised models: what users import (docs/api.md), each on first use."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.client.local.algorithm import LocalAlgorithm, Phase
    from lotteryfl.common.errors import LotteryFLError
    from lotteryfl.common.experiment.experiment import Experiment
    from lotteryfl.common.models.catalogue import create_model
    from lotteryfl.common.pruning.parameters import copy_model, copy_weights
    from lotteryfl.common.pruning.prune import (
        apply_masks,
        density,
        get_prune_params,
        get_prune_summary,
        make_permanent,
        prune_fixed_amount,
        rewind,
    )
    from lotteryfl.common.pruning.structured.resizing import load_structured
    from lotteryfl.common.tasks.base import ClientData, Task
    from lotteryfl.common.training import objectives
    from lotteryfl.common.training.evaluation import evaluate
    from lotteryfl.common.training.loop import train
    from lotteryfl.common.training.objective import Objective
    from lotteryfl.common.wire.clientresult import ClientResult
    from lotteryfl.common.wire.strategytensor import StrategyTensor
    from lotteryfl.running.scripts import load_experiment, run, simulate
    from lotteryfl.server.results.view import RunView, open_run
    from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy

__all__ = [
    "ClientData",
    "ClientResult",
    "ClientState",
    "Experiment",
    "LocalAlgorithm",
    "LotteryFLError",
    "Objective",
    "Phase",
    "RoundOutcome",
    "RunView",
    "Strategy",
    "StrategyTensor",
    "Task",
    "apply_masks",
    "copy_model",
    "copy_weights",
    "create_model",
    "density",
    "evaluate",
    "get_prune_params",
    "get_prune_summary",
    "load_experiment",
    "load_structured",
    "make_permanent",
    "objectives",
    "open_run",
    "prune_fixed_amount",
    "rewind",
    "run",
    "simulate",
    "train",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "ClientData": "common.tasks.base",
        "ClientResult": "common.wire.clientresult",
        "ClientState": "server.strategies.base",
        "Experiment": "common.experiment.experiment",
        "LocalAlgorithm": "client.local.algorithm",
        "LotteryFLError": "common.errors",
        "Objective": "common.training.objective",
        "Phase": "client.local.algorithm",
        "RoundOutcome": "server.strategies.base",
        "RunView": "server.results.view",
        "Strategy": "server.strategies.base",
        "StrategyTensor": "common.wire.strategytensor",
        "Task": "common.tasks.base",
        "apply_masks": "common.pruning.prune",
        "copy_model": "common.pruning.parameters",
        "copy_weights": "common.pruning.parameters",
        "create_model": "common.models.catalogue",
        "density": "common.pruning.prune",
        "evaluate": "common.training.evaluation",
        "get_prune_params": "common.pruning.prune",
        "get_prune_summary": "common.pruning.prune",
        "load_experiment": "running.scripts",
        "load_structured": "common.pruning.structured.resizing",
        "make_permanent": "common.pruning.prune",
        "objectives": "common.training.objectives",
        "open_run": "server.results.view",
        "prune_fixed_amount": "common.pruning.prune",
        "rewind": "common.pruning.prune",
        "run": "running.scripts",
        "simulate": "running.scripts",
        "train": "common.training.loop",
    },
)
