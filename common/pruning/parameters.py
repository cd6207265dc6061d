"""Named parameters and buffers in and out of a model, in whatever state of pruning it is.

Names are plain: those of the unpruned model's state dict. `fc.weight` stays `fc.weight` where torch says
`fc.weight_orig`, and a parameter that is itself called `x_orig` keeps its name. A tensor that modules share
(a tie) comes once, under its first name.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lotteryfl.common.names import Digest
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.state import refresh_all, settle, where_made
from lotteryfl.common.transfer import copy_into


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers by plain name, in the unpruned model's order.

    They are detached views: what is written into them in place is in the model (and in a pruned module's
    product from its next forward on). Pruned parameters come whole, as `NAME_orig` holds them.
    """
    return {item.name: item.tensor.detach() for item in model_tensors(model)}


def named_masks(model: nn.Module) -> dict[str, Tensor]:
    """Return the live masks of the pruned parameters by plain name: 1 = kept, 0 = pruned."""
    return {item.name: item.mask for item in model_tensors(model) if item.mask is not None}


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into the model's parameters and buffers, in place; masks stay as they are.

    Args:
        model: plain or pruned, on any device.
        tensors: values for exactly the names of `named_tensors(model)`; copied, never kept.

    Raises:
        ValueError: a name is missing or unexpected, a shape differs, or a dtype is of another kind.
            Nothing has been changed then.
    """
    found = model_tensors(model)
    _check_names({item.name for item in found}, tensors)
    for item in found:
        item.check_fits(tensors[item.name])
    with where_made(model), torch.no_grad():
        copy_into({item.name: item.tensor for item in found}, tensors)
        refresh_all(model)


def set_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Prune the model by exactly these masks; a parameter without one is plain again, with all its values.

    Args:
        model: any module.
        masks: plain parameter name → 1 = kept, 0 = pruned, of the parameter's shape; copied.

    Raises:
        ValueError: a name is not a parameter's, or a shape differs. Nothing has been changed then.
    """
    found = {item.name: item for item in model_tensors(model)}
    for name, mask in masks.items():
        if name not in found:
            raise ValueError(f"mask {name!r}: the model has no parameter of this name")
        found[name].check_can_prune()
        if mask.shape != found[name].tensor.shape:
            raise ValueError(f"mask {name!r} has shape {list(mask.shape)}, expected {list(found[name].tensor.shape)}")
    with where_made(model):
        for name, item in found.items():
            if name in masks:
                item.put_mask(item.new_mask().copy_(masks[name]))
            else:
                item.drop_mask()
        settle(model)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters, buffers and masks from one model into another, across devices.

    Afterwards the target is pruned exactly as the source is, and nothing is shared between the two.

    Args:
        source: any module, pruned or not.
        target: one of the same architecture; changed in place.

    Raises:
        ValueError: the models differ in names, shapes or kinds of dtype.
    """
    load_tensors(target, named_tensors(source))
    set_masks(target, named_masks(source))


def copy_model(
    model: nn.Module, device: torch.device | str | None = None, *, unset: Iterable[Tensor] = ()
) -> nn.Module:
    """Return an independent copy in the model's present state: dense or pruned, before or after a forward.

    `copy.deepcopy` alone refuses a pruned model, because its masked products hang in a graph.

    Args:
        model: any module.
        device: where the copy lives; None: where the model does.
        unset: parameters of the model whose values the copy is to do without: whoever copies sets them next.
    """
    with where_made(model):
        copies: dict[int, object] = {
            id(parameter): nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)
            for parameter in unset
            if type(parameter) is nn.Parameter
        }
        copies |= {
            id(value): value.detach().clone()
            for module in model.modules()
            for value in vars(module).values()
            if isinstance(value, Tensor) and not value.is_leaf
        }
        copied = copy.deepcopy(model, memo=copies)
        if device is not None:
            copied.to(device)
        refresh_all(copied)
    return copied


def digest(tensors: Mapping[str, Tensor]) -> Digest:
    """Return the SHA-256 (hexadecimal) over names, dtypes, shapes and raw bytes, in name order."""
    digester = Digester()
    for name in sorted(tensors):
        digester.add(name, tensors[name])
    return digester.digest()


class Digester:
    """Makes `digest` of tensors that come one by one, in name order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        """Take the next tensor."""
        self._sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        self._sha.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)

    def digest(self) -> Digest:
        """Return the digest of all so far."""
        return Digest(self._sha.hexdigest())


def _check_names(expected: set[str], tensors: Mapping[str, Tensor]) -> None:
    differences = {"missing": expected - tensors.keys(), "unexpected": tensors.keys() - expected}
    problems = [f"{what} {', '.join(map(repr, sorted(names)))}" for what, names in differences.items() if names]
    if problems:
        raise ValueError(f"tensors do not fit the model: {'; '.join(problems)}")
