"""What a model's modules keep by `get_extra_state`: it never travels, so every ticket has it as a fresh model has."""

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.dtypes import CODES
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.server.store.rundb.database import Database

_KEY = "extra_state"
_OTHER = "extra_state_other"
_SUFFIX = "_extra_state"


class ExtraState(NamedTuple):
    """It, by name in the state dict."""

    tensors: Mapping[str, Tensor] = {}
    """What is tensors, and can be kept."""
    other: str = ""
    """The first name of what is none, with its type; '': there is nothing of the kind."""

    @classmethod
    def of(cls, model: nn.Module) -> "ExtraState":
        """Read it off a model as it is built."""
        found: dict[str, Any] = {
            name: value for name, value in model.state_dict().items() if name.rpartition(".")[2] == _SUFFIX
        }
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor) and value.dtype in CODES}
        others = (f"{name} is of type {type(value).__name__}" for name, value in found.items() if name not in tensors)
        return cls(tensors, next(others, ""))

    @classmethod
    def kept(cls, database: Database) -> "ExtraState":
        """Read what `keep` wrote.

        Raises:
            PayloadError: it is damaged.
        """
        text = database.get(_KEY)
        try:
            content = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise PayloadError(f"{_KEY}: {error}") from error
        return cls(parse(bytearray(content), _KEY) if content else {}, database.get(_OTHER))

    def keep(self, database: Database) -> None:
        """Write it on record; what is no tensor, by its name."""
        if self.tensors:
            content = bytearray().join(TensorStream({name: tensor.cpu() for name, tensor in self.tensors.items()}))
            database.put(_KEY, base64.b64encode(content).decode())
        if self.other:
            database.put(_OTHER, self.other)
