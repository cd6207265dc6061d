"""The tensors of a model, each once, under the names they have in the unpruned model, and their masks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from lotteryfl.common.pruning.state import check_can_wrap, pruned_names, unwrap, wrap


@dataclass(frozen=True, eq=False)
class ModelTensor:
    """One parameter or persistent buffer of a model."""

    names: tuple[str, ...]
    """Plain names in the state dict; more than one where modules share the tensor (a tie)."""
    owners: tuple[tuple[nn.Module, str], ...]
    """Every module that holds it, with its plain name there; the first is where `name` leads."""
    homes: tuple[tuple[nn.Module, str], ...]
    """For each owner the module that computes with it, and what it is called there: a Linear and its `weight` for the
    original of a parametrization, a module and its list for what is in a ParameterList; else the owner itself."""
    tensor: Tensor
    """The live tensor itself; `NAME_orig` where it is pruned."""

    @property
    def name(self) -> str:
        """The first of its plain names."""
        return self.names[0]

    @property
    def is_parameter(self) -> bool:
        """False for a buffer."""
        return isinstance(self.tensor, nn.Parameter)

    @property
    def mask(self) -> Tensor | None:
        """The live mask (1 = kept, 0 = pruned; shape of the tensor), None where nothing is pruned."""
        for module, name in self.owners:
            if name in pruned_names(module):
                mask: Tensor = getattr(module, f"{name}_mask")
                return mask
        return None

    def new_mask(self) -> Tensor:
        """Return an uninitialised mask as torch's pruning has them: the tensor's shape, dtype and device."""
        return torch.empty_like(self.tensor, requires_grad=False, memory_format=torch.contiguous_format)

    def put_mask(self, mask: Tensor) -> None:
        """Prune by this mask, which is not copied, under all owners; the model wants `settle` then."""
        for module, name in self.owners:
            wrap(module, name, mask)

    def drop_mask(self) -> None:
        """Make it a plain parameter again, under all owners; the model wants `settle` then."""
        for module, name in self.owners:
            if name in pruned_names(module):
                unwrap(module, name)

    def shares_memory(self, values: Tensor) -> bool:
        """Say whether the values lie in the tensor's own memory: writing to one changes the other."""
        ours, theirs = self.tensor.untyped_storage(), values.untyped_storage()
        return ours.nbytes() > 0 and ours.data_ptr() == theirs.data_ptr()

    def check_can_prune(self) -> None:
        """Check that nothing is in the way of `put_mask`.

        Raises:
            ValueError: it is a buffer, or an owner uses one of the names that the pruned state needs.
        """
        if not self.is_parameter:
            raise ValueError(f"cannot prune {self.name!r}: it is a buffer")
        for module, name in self.owners:
            check_can_wrap(module, name)

    def check_fits(self, values: Tensor) -> None:
        """Check that the values can be copied into the tensor.

        Raises:
            ValueError: they have another shape, or a dtype of another kind (floating point, integer, ...).
        """
        if values.shape != self.tensor.shape:
            raise ValueError(f"{self.name!r} has shape {list(values.shape)}, expected {list(self.tensor.shape)}")
        if _kind(values.dtype) != _kind(self.tensor.dtype):
            raise ValueError(
                f"{self.name!r} has dtype {values.dtype}, expected {self.tensor.dtype} or another "
                f"{_kind(self.tensor.dtype)} dtype"
            )


def model_tensors(model: nn.Module) -> list[ModelTensor]:
    """List the model's parameters and persistent buffers, masks left out, each once.

    The order is that of the unpruned model's state dict. (torch's own pruning functions move a parameter to
    the end of its module; those of `common.pruning.prune` do not.)

    Raises:
        ValueError: a lazy parameter or buffer has no shape yet, or a module is scripted or traced.
    """
    tensors: dict[int, Tensor] = {}
    names: dict[int, list[str]] = {}
    owners: dict[int, dict[tuple[int, str], tuple[nn.Module, str]]] = {}
    homes: dict[int, dict[tuple[int, str], tuple[nn.Module, str]]] = {}
    modules: dict[str, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, torch.jit.ScriptModule):
            where = f"{path!r} of the model" if path else "the model"
            raise ValueError(f"{where} is a scripted module, whose tensors cannot be replaced: script it afterwards")
        modules[path] = module
        for local, tensor in _own_tensors(module):
            name = f"{path}.{local}" if path else local
            if is_lazy(tensor):
                raise ValueError(f"{name!r} is not initialised: run a batch through the model first")
            key = id(tensor)
            tensors[key] = tensor
            names.setdefault(key, []).append(name)
            owners.setdefault(key, {})[id(module), local] = (module, local)
            homes.setdefault(key, {})[id(module), local] = _home(modules, path, local)
    return [
        ModelTensor(tuple(names[key]), tuple(owners[key].values()), tuple(homes[key].values()), tensors[key])
        for key in tensors
    ]


def zero_pruned(tensor: Tensor, mask: Tensor | None) -> None:
    """Set the values that the mask of ones and zeros prunes to exactly 0 in place, whatever they hold."""
    if mask is None:
        return
    with torch.no_grad():
        if tensor.device.type != "cpu":  # the same bits, and nobody waits to learn what is in it
            tensor.add_(0).masked_fill_(mask == 0, 0)
            return
        tensor.mul_(mask).add_(0)  # a tenth of the time of masked_fill_; adding makes +0 of -0
        if not bool(tensor.sum().isfinite()):
            tensor.masked_fill_(mask == 0, 0)  # 0 × NaN is NaN


def _home(modules: Mapping[str, nn.Module], path: str, local: str) -> tuple[nn.Module, str]:
    """Return the module that computes with a tensor, and what the tensor is called there."""
    owner, (above, _, called) = modules[path], path.rpartition(".")
    if isinstance(owner, ParametrizationList) and above:
        return modules[above.rpartition(".")[0]], called  # above is MODULE.parametrizations
    if isinstance(owner, nn.ParameterList | nn.ParameterDict) and called:
        return modules[above], called
    return owner, local


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the module's own parameters and persistent buffers with their plain names."""
    pruned = pruned_names(module)
    for key, parameter in module._parameters.items():
        if parameter is not None:
            plain = key.removesuffix("_orig")
            yield (plain if plain in pruned else key), parameter
    for key, buffer in module._buffers.items():
        is_mask = key.endswith("_mask") and key.removesuffix("_mask") in pruned
        if buffer is not None and not is_mask and key not in module._non_persistent_buffers_set:
            yield key, buffer


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    if dtype.is_complex:
        return "complex"
    return "floating point" if dtype.is_floating_point else "integer"
