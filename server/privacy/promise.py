"""Client-level differential privacy: which experiments can have it, and the server's noise.

The Gaussian mechanism on bounded updates of McMahan et al. 2018, "Learning Differentially Private Recurrent Language
Models", Algorithm 1, with the estimator of the fixed denominator and equal weights. docs/decisions/0014-privacy.md
says what it is sound for.
"""

import os
from collections.abc import Iterator, Mapping

from torch import Tensor

from lotteryfl.common import packedmasks as packed_masks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.settings import PrivacySettings
from lotteryfl.common.noise import Source, gaussian
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.privacy.accountant import require_accountant
from lotteryfl.server.strategies.base import ClientState, Strategy

_SUITED = "fedavg, fedavg-finetune, fedprox, or feddst with strategy.readjust_rate = 0"


def check_privacy(strategy: Strategy, table: TensorTable) -> None:
    """Check that what `[privacy]` promises can be kept with the strategy's plans and the model, and told.

    Raises:
        ExperimentError: it cannot.
    """
    privacy, name = strategy.experiment.privacy, strategy.name
    if not (privacy.clip_norm or privacy.dp_sgd):
        return
    if any(plan.measure_saliency or plan.HasField("readjust") for plan in _plans(strategy)):
        raise ExperimentError(
            f"strategy.name = {name!r}: its clients send saliencies or exchange weights by gradients of all their "
            "examples, which [privacy] neither bounds nor covers with noise; expected another strategy"
        )
    if privacy.clip_norm and not strategy.aggregates:
        raise ExperimentError(
            f"privacy.clip_norm = {privacy.clip_norm:g}: strategy.name = {name!r} shares nothing, expected 0"
        )
    if privacy.noise != "none":
        _check_noise(strategy, table)
    if privacy.is_promised:
        require_accountant()


def _check_noise(strategy: Strategy, table: TensorTable) -> None:
    """Check that all clients send the same elements, whatever their data."""
    noise, name = strategy.experiment.privacy.noise, strategy.name
    if any(plan.HasField("prune") or plan.HasField("select") for plan in _plans(strategy)):
        raise ExperimentError(
            f"privacy.noise = {noise!r}: with strategy.name = {name!r} a client's mask comes from its data, and tells "
            f"of them however noisy the weights are; expected {_SUITED}"
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


def _plans(strategy: Strategy) -> Iterator[pb.Plan]:
    client = ClientState(0)
    yield from (strategy.plan(round_, client) for round_ in range(1, strategy.experiment.rounds + 1))
    yield strategy.final_plan(client)


def noisy_means(
    old: Mapping[str, Tensor],
    means: Iterator[tuple[str, Tensor]],
    masks: Mapping[str, PackedMask],
    privacy: PrivacySettings,
    *,
    results: int,
    clients: int,
    source: Source = os.urandom,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the old model plus the noisy sum of the updates over the number of clients asked, tensor by tensor.

    Who sent nothing counts as an update of 0. So the denominator is no secret, and one client changes the result by
    at most clip_norm / clients, in the L2 norm over all tensors: the noise of every element has noise_multiplier
    times this as its standard deviation.

    Args:
        old: the global model that the clients started from, by name.
        means: (name, equally weighted mean of the results), floating point.
        masks: that all clients are under, chosen without their data; what they do not keep has no noise.
        privacy: norm and noise.
        results: of the round.
        clients: that were asked for one.
        source: of the noise.
    """
    deviation = privacy.noise_multiplier * privacy.clip_norm / clients
    for name, mean in means:
        start = old[name].double()
        values = start + (mean.double() - start) * (results / clients)
        noise = gaussian(mean.numel(), deviation, source).view(mean.shape)
        values += noise * packed_masks.unpack(masks[name], mean.shape) if name in masks else noise
        yield name, values.to(mean.dtype)
