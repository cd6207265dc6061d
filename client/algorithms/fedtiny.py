"""FedTiny, the client's half (Huang et al. 2023): candidates are looked at and judged, and large gradients sent."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.common.pruning.among import largest_among
from lotteryfl.common.pruning.candidates import candidate_counts
from lotteryfl.common.pruning.modeltensors import model_tensors

_WORST = 1e30
"""In the place of a loss that is not finite: what a client sends has to be."""


class FedTiny(LocalAlgorithm):
    """Does what `options["stage"]` says: look, judge, or grow."""

    name = "fedtiny"

    def begin(self) -> None:
        """Look at all candidates, or judge them, before anything trains."""
        stage, tensors = self.work.options["stage"], self.work.tensors
        if stage == "grow":
            return
        self._start = {name: value.clone() for name, value in self._state()}
        for number, model in enumerate(self._candidates()):
            statistics = _statistics(model)
            if stage == "look":
                self._look(model)
                if statistics:
                    tensors["seen"][number] = torch.cat([each.flatten().float() for each in statistics])
                continue
            if statistics:
                values = torch.split(tensors["statistics"][number], [each.numel() for each in statistics])
                for each, value in zip(statistics, values, strict=True):
                    each.copy_(value.view_as(each))
            loss = self.work.mean_loss(model)
            tensors["losses"][number] = loss if math.isfinite(loss) else _WORST

    def end(self) -> None:
        """Send the largest gradients of a block's pruned weights; or the model as it came."""
        if self.work.options["stage"] != "grow":
            for name, value in self._state():
                value.copy_(self._start[name])
            return
        gradients = self.work.gradients()
        for name, weight in self.work.prunable().items():
            if not fnmatchcase(name, self.work.options["block"]):
                continue
            kept = self.work.masks.get(name, torch.ones_like(weight, dtype=torch.bool))
            gradient = gradients.get(name, torch.zeros_like(weight))
            count = int(self.work.options["share"] * int(kept.sum()))
            (large,) = largest_among([gradient], [~kept], count)
            self.work.tensors[f"gradients:{name}"].copy_(gradient * large)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        return ((item.name, item.tensor) for item in model_tensors(self.work.model))

    def _candidates(self) -> Iterator[nn.Module]:
        options, names = self.work.options, sorted(self.work.prunable())
        if options["candidates"] != (rows := self.work.tensors["losses"].numel()):
            raise ValueError(f"candidates = {options['candidates']}: expected {rows}, as the strategy's tensor has")
        sizes = [self.work.prunable()[name].numel() for name in names]
        keys = ("density", "spread", "candidates", "seed")
        for counts in candidate_counts(sizes, **{key: options[key] for key in keys}):
            model = self.work.copy()
            weights = {item.name: item.tensor for item in model_tensors(model)}
            for name, count in zip(names, counts, strict=True):
                everything = torch.ones_like(weights[name], dtype=torch.bool)
                weights[name].mul_(largest_among([weights[name]], [everything], count)[0])
            yield model

    def _look(self, model: nn.Module) -> None:
        """Let the model's batch norms have the statistics of the client's data, by its own batches."""
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.reset_running_stats()
                module.momentum = None  # the mean of all batches
                module.register_forward_pre_hook(_by_the_batch)
                module.register_forward_hook(_as_before)
        self.work.mean_loss(model)


def _statistics(model: nn.Module) -> list[Tensor]:
    """Return the means and variances of a model's batch norms."""
    found = {item.name: item.tensor for item in model_tensors(model) if not item.is_parameter}
    return [found[name] for name in sorted(found) if name.endswith(("running_mean", "running_var"))]


def _by_the_batch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Have a batch norm train, unless there is but one value of each channel, of which there is no variance."""
    module.train(inputs[0].numel() > inputs[0].shape[1])


def _as_before(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
    del inputs, outputs
    module.train(mode=False)
