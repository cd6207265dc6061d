"""How a pruned parameter lives in its module, and what keeps its masked product fresh.

The state is that of `torch.nn.utils.prune`: the Parameter `NAME_orig`, the buffer `NAME_mask`, and the
attribute `NAME`, their product, which a forward pre-hook renews before every call of the module. So torch's
`is_pruned`, `remove`, further pruning and state-dict names all work. Two things are added:

- `NAME_orig` takes the place of `NAME` among the parameters, so that pruning never changes their order;
- modules above renew the products below them too, because some read a child's weight without calling the
  child: `nn.MultiheadAttention` its `out_proj.weight`, an autoencoder the weight that it decodes with.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lotteryfl.common.pruning.weightnorm import allow_zero_rows

# They only call their children, whose own hooks are enough.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def pruned_names(module: nn.Module) -> set[str]:
    """Return the plain names of the parameters pruned in this very module, not in its children."""
    return {
        hook._tensor_name for hook in module._forward_pre_hooks.values() if isinstance(hook, prune.BasePruningMethod)
    }


def check_can_wrap(module: nn.Module, name: str) -> None:
    """Check that the names that the pruned state needs are free.

    Raises:
        ValueError: the module uses one of them for something else.
    """
    if name in pruned_names(module):
        return
    for taken in (f"{name}_orig", f"{name}_mask"):
        if hasattr(module, taken):
            raise ValueError(f"cannot prune {name!r} of {type(module).__name__}: it has a {taken!r} already")


def wrap(module: nn.Module, name: str, mask: Tensor) -> None:
    """Put the parameter into the pruned state, or give an already pruned one another mask.

    The old mask and product are let go, not written to: who holds one sees no change.

    Args:
        module: owner of the parameter.
        name: the parameter's plain name there.
        mask: 1 = kept, 0 = pruned; of the parameter's shape, dtype and device. Not copied.
    """
    if name not in pruned_names(module):
        _rename_parameter(module, name, f"{name}_orig")
        method = prune.Identity()
        method._tensor_name = name
        module.register_forward_pre_hook(method, prepend=True)
        allow_zero_rows(module, name)
    module.register_buffer(f"{name}_mask", mask)
    vars(module).pop(name, None)  # the old product, whose graph holds the old mask, makes room for the new one
    _renew(module, name)


def unwrap(module: nn.Module, name: str) -> None:
    """Take the mask away: `NAME` is the plain Parameter again, with all the values of `NAME_orig`."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == name:
            _remove_hook(module, hook)
    delattr(module, f"{name}_mask")
    vars(module).pop(name, None)
    _rename_parameter(module, f"{name}_orig", name)
    setattr(module, name, module._parameters[name])  # an RNN updates its flat list of weights by this


@contextmanager
def where_made(model: nn.Module) -> Iterator[None]:
    """Let new tensors be of the model's own kind: what is made inside `torch.inference_mode` never trains again.

    A model that was made there can be changed in place only there; any other one only keeps its gradients outside.
    """
    made_there = any(tensor.is_inference() for tensor in model.parameters())
    if made_there == torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(made_there):
        yield


def refresh(module: nn.Module) -> int:
    """Renew the module's own masked products; return how many there are."""
    names = pruned_names(module)
    for name in names:
        _renew(module, name)
    return len(names)


def refresh_below(module: nn.Module) -> int:
    """Renew the masked products of all modules below this one; return how many there are."""
    return sum(map(refresh, _descendants(module)))


def refresh_all(model: nn.Module) -> None:
    """Renew every masked product of the model, after a `NAME_orig` or `NAME_mask` was written to."""
    refresh(model)
    refresh_below(model)


class RefreshBelow:
    """Forward pre-hook: renews the products below, and takes itself away when none is left."""

    def __call__(self, module: nn.Module, _inputs: object) -> None:
        """Called by torch before the module's forward."""
        if not refresh_below(module):
            _remove_hook(module, self)


def settle(model: nn.Module) -> None:
    """Give `RefreshBelow` to exactly those modules that have something pruned below them."""
    for module in model.modules():
        found = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, RefreshBelow)]
        wanted = type(module) not in _CONTAINERS and any(map(pruned_names, _descendants(module)))
        if wanted and not found:
            module.register_forward_pre_hook(RefreshBelow(), prepend=True)
        elif found and not wanted:
            _remove_hook(module, *found)


def _renew(module: nn.Module, name: str) -> None:
    original: Tensor = getattr(module, f"{name}_orig")
    mask: Tensor = getattr(module, f"{name}_mask")
    setattr(module, name, mask.to(original.dtype) * original)


def _descendants(module: nn.Module) -> Iterator[nn.Module]:
    return (child for child in module.modules() if child is not module)


def _rename_parameter(module: nn.Module, old: str, new: str) -> None:
    renamed = {new if key == old else key: value for key, value in module._parameters.items()}
    module._parameters.clear()
    module._parameters.update(renamed)


def _remove_hook(module: nn.Module, *hooks: object) -> None:
    for key, hook in list(module._forward_pre_hooks.items()):
        if hook in hooks:
            del module._forward_pre_hooks[key]
