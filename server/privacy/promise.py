"""Which experiments can keep what they promise about privacy; docs/decisions/0014-privacy.md says what it is worth."""

from collections.abc import Iterable, Iterator

import torch

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.privacy.accountant import require_accountant
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.asked import has_own, planned
from lotteryfl.server.strategies.support.firstmasks import first_masks

_SUITED = "fedavg, fedavg-finetune, fedprox, or feddst with strategy.readjust_rate = 0"


def check_privacy(strategy: Strategy, table: TensorTable) -> None:
    """Check that what `[privacy]` promises can be kept with the strategy's plans and the model, and told.

    Raises:
        ExperimentError: it cannot.
    """
    privacy, name = strategy.experiment.privacy, strategy.name
    if not (privacy.clip_norm or privacy.dp_sgd):
        return
    check_plans(strategy, _plans(strategy))
    if privacy.clip_norm and not strategy.aggregates:
        raise ExperimentError(
            f"privacy.clip_norm = {privacy.clip_norm:g}: strategy.name = {name!r} shares nothing, expected 0"
        )
    if privacy.noise != "none":
        _check_noise(strategy, table)
    if privacy.dp_sgd:
        _check_gradients(table)
    if privacy.is_promised and strategy.local:
        raise ExperimentError(
            f"privacy.{'dp_sgd' if privacy.dp_sgd else 'noise'}: strategy.name = {name!r} has code of its own on the "
            f"clients, local algorithm {strategy.local!r}, which nothing bounds; expected {_SUITED}"
        )
    if privacy.is_promised:
        _check_hooks(strategy)
        require_accountant()


def check_plans(strategy: Strategy, plans: Iterable[pb.Plan]) -> None:
    """Check that plans are none whose results tell of data what `[privacy]` does not cover.

    Args:
        strategy: whose they are.
        plans: to be given out, or such as will be.

    Raises:
        ExperimentError: one is.
    """
    privacy, name = strategy.experiment.privacy, strategy.name
    if not (privacy.clip_norm or privacy.dp_sgd):
        return
    for plan in plans:
        if plan.measure_saliency or plan.HasField("readjust"):
            raise ExperimentError(
                f"strategy.name = {name!r}: its clients send saliencies or exchange weights by gradients of all their "
                "examples, which [privacy] neither bounds nor covers with noise; expected another strategy"
            )
        if privacy.noise != "none" and any(plan.HasField(part) for part in ("prune", "select", "free_mask")):
            raise ExperimentError(
                f"privacy.noise = {privacy.noise!r}: with strategy.name = {name!r} a client's mask comes from its "
                f"data, and tells of them however noisy the weights are; expected {_SUITED}"
            )


def _check_hooks(strategy: Strategy) -> None:
    """Check that the global model does not go by what clients measure, which has no noise."""
    for hook in ("weight", "after_round", "aggregation"):
        if has_own(strategy, hook):
            raise ExperimentError(
                f"strategy.name = {strategy.name!r}: has {hook}, by which results count otherwise than the noise of "
                f"[privacy] is for; expected {_SUITED}"
            )


def _check_noise(strategy: Strategy, table: TensorTable) -> None:
    """Check that all clients send the same elements, whatever their data."""
    noise, name = strategy.experiment.privacy.noise, strategy.name
    if any(first_masks(strategy, table)):
        raise ExperimentError(
            f"privacy.noise = {noise!r}: with strategy.name = {name!r} clients have masks of their own, and noise is "
            f"for all of them on the same elements; expected {_SUITED}"
        )
    if personal := sorted(strategy.personal(table)):
        raise ExperimentError(
            f"privacy.noise = {noise!r}: {personal[0]!r} is each client's own (strategy.name = {name!r}, "
            f"strategy.personal), and is never averaged; expected {_SUITED}, without strategy.personal"
        )
    for spec in table:
        if spec.role != "parameter" or not spec.dtype.is_floating_point:
            raise ExperimentError(
                f"privacy.noise = {noise!r}: the model's {spec.name!r} ({spec.dtype} {spec.role}) cannot bear noise, "
                "and would travel without; expected a model of floating-point parameters alone: no batch norm"
            )


def _check_gradients(table: TensorTable) -> None:
    """Check that examples' gradients are still within their bound when they have been summed."""
    for spec in table:
        if spec.role == "parameter" and spec.dtype.is_floating_point and spec.dtype.itemsize < torch.float32.itemsize:
            raise ExperimentError(
                f"privacy.dp_sgd: the model's {spec.name!r} is of {spec.dtype}, in which gradients are rounded beyond "
                "their bound; expected float32 or float64"
            )


def _plans(strategy: Strategy) -> Iterator[pb.Plan]:
    client = ClientState(0)
    rounds = strategy.experiment.rounds
    yield from (planned(strategy, round_, client) for round_ in range(1, rounds + 1))
    yield planned(strategy, rounds + 1, client, is_final=True)
