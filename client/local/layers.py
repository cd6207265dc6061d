"""Which of a model's parameters are its head, and which its body, as far as their names and shapes tell."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor


def head_and_body(parameters: Mapping[str, Tensor], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the head's parameters and of all others that train.

    Args:
        parameters: by plain name, in the order in which the model has them.
        patterns: of the head's names; none: it is the output layer, the last module with a matrix, as on the
            coordinator (`server.strategies.support.layers`), which refuses it where it may be tied to another one.
    """
    trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    if not patterns:
        matrices = [name for name in trained if parameters[name].dim() > 1]
        last = _module_of(matrices[-1]) if matrices else ""
        head = [name for name in trained if matrices and _module_of(name) == last]
    else:
        head = [name for name in trained if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return head, [name for name in trained if name not in head]


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]
