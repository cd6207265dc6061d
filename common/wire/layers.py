"""Which tensors of a model belong together, as far as their table tells: its batch norms, its output layer."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorSpec, TensorTable

_STATISTICS = "running_mean"


def batch_norms(table: TensorTable) -> frozenset[str]:
    """Return the names of the batch norms' tensors: weights, biases, statistics."""
    norms = {module_of(spec.name) for spec in table if spec.name.rpartition(".")[2] == _STATISTICS}
    return frozenset(spec.name for spec in table if module_of(spec.name) in norms)


def output_layer(table: TensorTable) -> frozenset[str]:
    """Return the names of the tensors of the module with the last matrix; of a model without one, none.

    Raises:
        ExperimentError: a later module may have a matrix that is tied to one of an earlier module.
    """
    matrices = [spec for spec in table.in_model if is_matrix(spec)]
    if not matrices:
        return frozenset()
    last = module_of(matrices[-1].name)
    names = [spec.name for spec in table.in_model]
    before = {module_of(name) for name in names[: names.index(matrices[-1].name) + 1]}
    for spec in matrices:  # a tied one stands where its first name does: only other tensors place the later modules
        if tied := [alias for alias in spec.aliases if module_of(alias) not in before]:
            raise ExperimentError(
                f"the model's output layer: {tied[-1]!r} is tied to {spec.name!r}, and may be in it: expected patterns "
                "that name it, as strategy.personal, or strategy.options.head of 'fedbabu'"
            )
    return frozenset(spec.name for spec in table if module_of(spec.name) == last)


def head_and_body(table: TensorTable, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the head's parameters and of all others that train, in the model's order.

    Args:
        table: of the model.
        patterns: of the head's names; none: it is the output layer.

    Raises:
        ExperimentError: as `output_layer`.
    """
    trained = [spec.name for spec in table.in_model if spec.role == "parameter"]
    named = {name for name in trained if any(fnmatchcase(name, pattern) for pattern in patterns)}
    found = named if patterns else output_layer(table)
    return [name for name in trained if name in found], [name for name in trained if name not in found]


def is_matrix(spec: TensorSpec) -> bool:
    """Say whether this is what a layer multiplies its inputs by."""
    return spec.role == "parameter" and len(spec.shape) > 1


def module_of(name: str) -> str:
    """Return the name of the module that a tensor is in; of the model's own, ''."""
    return name.rpartition(".")[0]


def output_bias(table: TensorTable) -> str:
    """Return the name of the bias of a model's output layer; empty: it has none.

    Args:
        table: of the model.
    """
    layer = output_layer(table)
    return next((spec.name for spec in table if spec.name in layer and len(spec.shape) == 1), "")
