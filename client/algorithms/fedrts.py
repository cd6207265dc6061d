"""FedRTS, the client's half (Huang et al. 2025, section 3): which weights are worth their place by what it has seen."""

import torch

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.common.pruning.among import largest_among


class FedRTS(LocalAlgorithm):
    """Says of each kept weight whether it is large, and of each pruned one whether its gradient is."""

    name = "fedrts"

    def end(self) -> None:
        """Of a tensor's kept weights all but a share are large, and as many gradients as that share are."""
        work, grows = self.work, self.work.options["grows"]
        gradients = work.gradients() if grows else {}
        for name, weight in work.prunable().items():
            kept = work.masks.get(name, torch.ones_like(weight, dtype=torch.bool))
            count = int(kept.sum())
            in_question = int(work.options["share"] * count)
            (outcome,) = largest_among([weight], [kept], count - in_question)
            if grows:
                gradient = gradients.get(name, torch.zeros_like(weight))
                outcome |= largest_among([gradient], [~kept], in_question)[0]
            work.tensors[f"outcome:{name}"].copy_(outcome)
