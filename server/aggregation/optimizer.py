"""The server's optimizer: old model minus mean of the clients is its gradient (Reddi et al. 2021, Algorithm 2)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.table import TensorSpec, TensorTable

_STEP = "step"
_MOMENTS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "yogi": ("exp_avg", "exp_avg_sq")}
"""What an optimizer keeps in the shape of a parameter."""


class ServerOptimizer:
    """One optimizer of torch for each parameter, one after the other; its state goes from round to round in a file.

    A parameter has its old values as parameter and old minus mean as gradient: SGD with lr = 1 and no momentum
    would give the mean. Differs from the paper where torch does: its Adam corrects the bias of the moments.
    """

    def __init__(self, settings: ServerSettings, state: Mapping[str, Tensor]) -> None:
        """Take up where a round has left.

        Args:
            settings: of the optimizer; not "none".
            state: what `state` was after the last round; empty: there was none.

        Raises:
            ExperimentError: the optimizer is not installed.
        """
        self._create = _factory(settings)
        self._before: dict[str, dict[str, Tensor]] = defaultdict(dict)  # by name and key
        for place, value in state.items():
            name, _, key = place.rpartition("/")
            self._before[name][key] = value
        self.state: dict[str, Tensor] = {}
        """What the optimizer keeps after the steps: `NAME/KEY` of every parameter, as large as the model or twice."""

    def steps(
        self, table: TensorTable, old: Mapping[str, Tensor], means: Iterator[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the new global model, one tensor at a time; buffers are their mean.

        Args:
            table: of the model.
            old: the global model that the clients started from.
            means: (name, what the clients' values came to), each tensor once.
        """
        for name, mean in means:
            yield name, self._step(name, old[name], mean) if _is_trained(table[name]) else mean

    def _step(self, name: str, old: Tensor, mean: Tensor) -> Tensor:
        parameter = nn.Parameter(old.detach().clone())
        parameter.grad = (old.detach() - mean).to(old.dtype)
        optimizer = self._create([parameter])
        self._restore(optimizer, parameter, name)
        optimizer.step()
        self._keep(optimizer, parameter, name)
        return parameter.detach()

    def _restore(self, optimizer: Optimizer, parameter: nn.Parameter, name: str) -> None:
        found = {key: value.clone() for key, value in self._before[name].items()}
        if _STEP in found and not isinstance(optimizer, Adam):
            optimizer.param_groups[0][_STEP] = int(found.pop(_STEP))
        if found:
            optimizer.state[parameter] = found

    def _keep(self, optimizer: Optimizer, parameter: nn.Parameter, name: str) -> None:
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                self.state[f"{name}/{key}"] = value
        if isinstance(steps := optimizer.param_groups[0].get(_STEP), int):
            self.state[f"{name}/{_STEP}"] = torch.tensor(steps)


def check_state(settings: ServerSettings, table: TensorTable, state: Mapping[str, Tensor], steps: int) -> None:
    """Check what `ServerOptimizer.state` was stored as.

    Args:
        settings: of the optimizer.
        table: of the model.
        state: by name.
        steps: that the optimizer has made.

    Raises:
        PayloadError: a tensor is missing or unexpected, has another shape, is not finite, or counts other steps.
    """
    moments = _MOMENTS[settings.optimizer] if settings.optimizer != "sgd" or settings.momentum else ()
    shapes = {f"{spec.name}/{key}": spec.shape for spec in table if _is_trained(spec) for key in moments}
    counts = settings.optimizer != "sgd"
    counted = [f"{spec.name}/{_STEP}" for spec in table if counts and _is_trained(spec)]
    for key in sorted({*shapes, *counted} ^ state.keys()):
        raise PayloadError(f"{quoted(key)}: {'unexpected' if key in state else 'missing'}")
    for key, shape in shapes.items():
        if tuple(state[key].shape) != shape:
            raise PayloadError(f"{key}: shape {list(state[key].shape)}, expected {list(shape)}")
        if not bool(state[key].isfinite().all()):
            raise PayloadError(f"{key}: has values that are not finite")
    for key in counted:
        if state[key].numel() != 1 or int(state[key]) != steps:
            raise PayloadError(f"{key}: {state[key].tolist()}, expected {steps} steps")


def _is_trained(spec: TensorSpec) -> bool:
    return spec.role == "parameter" and spec.dtype.is_floating_point


def _factory(settings: ServerSettings) -> Callable[[list[nn.Parameter]], Optimizer]:
    if settings.optimizer == "sgd":
        return partial(SGD, lr=settings.lr, momentum=settings.momentum)
    if settings.optimizer == "adam" and settings.weight_decay:
        decay = settings.weight_decay
        return partial(AdamW, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=decay)
    if settings.optimizer == "adam":
        return partial(Adam, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    try:
        from pytorch_optimizer import Yogi
    except ImportError as error:
        raise ExperimentError(
            "server.optimizer = 'yogi': torch has no Yogi: pip install 'lotteryfl[yogi]', or choose sgd or adam"
        ) from error
    return partial(Yogi, lr=settings.lr, betas=settings.betas, eps=settings.eps)
