"""Which tensors of a model can be pruned, and why the others cannot: one rule, wherever a weight hides."""

from typing import Literal

from tabulate import tabulate
from torch import nn

from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors
from lotteryfl.common.pruning.weightnorm import is_magnitude

Prunable = Literal["matrices", "every-weight", "every-parameter"]
"""`matrices`: parameters that train, of at least two dimensions, whose name contains "weight", not of embeddings or
norms. `every-weight`: every floating-point parameter whose name contains "weight", frozen ones too.
`every-parameter`: whatever its name, biases too.

The name is that of the weight as who wrote the model knows it: of what is under `torch.nn.utils.parametrize` that of
the parametrized weight, of what is in a ParameterList or ParameterDict also the list's. The magnitudes of a weight norm
(`weight_g`) are never prunable."""

_PROTECTED = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


def prunable_tensors(model: nn.Module, prunable: Prunable = "matrices") -> list[ModelTensor]:
    """Like `get_prune_params`, with everything there is to know about each tensor."""
    check_rule(prunable)
    return [item for item in model_tensors(model) if is_prunable(item, prunable)]


def counted_tensors(model: nn.Module, prunable: Prunable = "matrices") -> list[ModelTensor]:
    """Return what densities are of: the prunable tensors, and those that were before they were frozen."""
    check_rule(prunable)
    return [item for item in model_tensors(model) if why_left_out(item, prunable, item.mask is not None) == ""]


def check_rule(prunable: Prunable) -> None:
    """Refuse a rule that there is not.

    Raises:
        ValueError: `prunable` is unknown.
    """
    if prunable not in ("matrices", "every-weight", "every-parameter"):
        raise ValueError(f"prunable={prunable!r}: expected 'matrices', 'every-weight' or 'every-parameter'")


def is_prunable(item: ModelTensor, prunable: Prunable) -> bool:
    """Say whether the rule counts this tensor among the prunable weights."""
    return why_left_out(item, prunable) == ""


def why_left_out(item: ModelTensor, prunable: Prunable, frozen_too: bool = False) -> str:
    """Return why the rule leaves a tensor out; '': it is prunable.

    Args:
        item: the tensor.
        prunable: the rule.
        frozen_too: let it be frozen.
    """
    if not item.is_parameter:
        return "a buffer"
    if not item.tensor.is_floating_point():
        return f"{item.tensor.dtype}, not floating point"
    if any(is_magnitude(module, name) for module, name in item.owners):
        return "magnitudes of a weight norm"
    if prunable == "every-parameter":
        return ""
    if not any("weight" in name for _, name in (*item.owners, *item.homes)):
        return "no weight by its name"
    return "" if prunable == "every-weight" else _why_no_matrix(item, frozen_too)


def explain(model: nn.Module, prunable: Prunable = "matrices") -> str:
    """Return a table of the model's tensors: which are prunable, and why the others are not."""
    check_rule(prunable)
    found = [(item, why_left_out(item, prunable)) for item in model_tensors(model)]
    weights = sum(item.tensor.numel() for item, reason in found if not reason)
    total = sum(item.tensor.numel() for item, _ in found)
    table = tabulate(
        [(item.name, "×".join(map(str, item.tensor.shape)) or "1", reason or "prunable") for item, reason in found],
        headers=("tensor", "shape", f"strategy.prunable = {prunable!r}"),
        disable_numparse=True,
    )
    return f"{table}\n\n{weights} of {total} values are prunable"


def _why_no_matrix(item: ModelTensor, frozen_too: bool) -> str:
    if not (item.tensor.requires_grad or frozen_too):
        return "frozen (requires_grad is False)"
    if item.tensor.dim() < 2:
        return "no matrix: less than two dimensions"
    for module, _ in item.homes:
        if isinstance(module, _PROTECTED):
            return f"of an embedding or a norm ({type(module).__name__})"
    return ""
