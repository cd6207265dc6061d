"""The server's noise, for client-level differential privacy.

The Gaussian mechanism on bounded updates of McMahan et al. 2018, "Learning Differentially Private Recurrent Language
Models", Algorithm 1, with the estimator of the fixed denominator and equal weights. docs/decisions/0014-privacy.md
says what it is sound for.
"""

import os
from collections.abc import Iterator, Mapping

from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.settings import PrivacySettings
from lotteryfl.common.noise import Source, gaussian
from lotteryfl.common.packedmasks import Masks


def noisy_means(
    old: Mapping[str, Tensor],
    means: Iterator[tuple[str, Tensor]],
    masks: Masks,
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
        means: (name, equally weighted mean of the results), in float64: rounded, it might be beyond what is covered.
        masks: that all clients are under, chosen without their data; what they do not keep has no noise.
        privacy: norm and noise.
        results: of the round.
        clients: that were asked for one.
        source: of the noise.
    """
    deviation = privacy.noise_multiplier * privacy.clip_norm / clients
    for name, mean in means:
        start = old[name].double()
        values = start + (mean - start) * (results / clients)
        noise = gaussian(mean.numel(), deviation, source).view(mean.shape)
        values += noise * packedmasks.unpack(masks[name], mean.shape) if name in masks else noise
        yield name, values.to(old[name].dtype)
