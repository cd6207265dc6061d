"""The table of a model's tensors: what a payload must look like, and whether two models are the same one."""

import hashlib
import json
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cached_property
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors
from lotteryfl.common.pruning.prunable import Prunable, is_prunable
from lotteryfl.common.tensors.dtypes import CODES, DTYPES

MAX_JSON = 64 * 2**20
"""Characters of a table's JSON."""

MAX_TENSORS = 100_000

MAX_BYTES = 2**40
"""Most bytes of all tensors together."""

Role = Literal["parameter", "buffer", "frozen"]
"""`frozen`: a part of θ_0 that never changes and goes with no round, be it a parameter or a buffer."""

Name = Annotated[str, Field(min_length=1, max_length=512)]
Size = Annotated[int, Field(ge=0, le=MAX_BYTES)]


class _Row(BaseModel):
    """A `TensorSpec` in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name
    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
    shape: Annotated[tuple[Size, ...], Field(max_length=16)]
    role: Role
    prunable: bool
    aliases: tuple[Name, ...]


_ROWS = TypeAdapter(Annotated[list[_Row], Field(max_length=MAX_TENSORS)])


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model."""

    name: str
    """Its plain name, see `common.pruning.parameters`."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    role: Role
    prunable: bool
    aliases: tuple[str, ...] = ()
    """Its other names in the state dict, where modules share it."""

    def __post_init__(self) -> None:
        if self.prunable and not (self.role == "parameter" and self.dtype.is_floating_point):
            raise ValueError(f"{self.name!r} is prunable: expected a parameter of floating point")

    @property
    def numel(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the dense tensor in bytes."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class TensorTable:
    """The tensors of a model in name order; the same whether the model is plain or pruned.

    Args:
        specs: in any order.

    Raises:
        ValueError: two tensors share a name.
    """

    specs: tuple[TensorSpec, ...]
    in_model: tuple[TensorSpec, ...] = field(init=False, repr=False, compare=False)
    """The same in the order that they were given in: that of the model's modules, in which the last one is its head."""
    _by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for spec in self.specs:
            for name in (spec.name, *spec.aliases):
                if name in seen:
                    raise ValueError(f"two tensors are named {name!r}")
                seen.add(name)
        object.__setattr__(self, "in_model", tuple(self.specs))
        in_order = sorted(self.specs, key=lambda spec: spec.name)
        object.__setattr__(self, "specs", tuple(in_order))
        object.__setattr__(self, "_by_name", {spec.name: spec for spec in in_order})

    @classmethod
    def of(
        cls,
        model: nn.Module,
        prunable: Prunable = "matrices",
        frozen: Sequence[str] = (),
        *,
        knows_frozen: bool = True,
    ) -> "TensorTable":
        """Read the table off a model.

        Args:
            model: plain or pruned.
            prunable: which tensors are pruned; frozen ones among them change, and are parameters as others are.
            frozen: patterns of the names of buffers that never change.
            knows_frozen: False: the role of what is frozen is that which it had before there was one of its own.

        Raises:
            ValueError: a tensor's dtype is not among `DTYPES`, a lazy parameter has no shape yet, or a pattern fits
                no buffer.
        """
        specs, items = [], model_tensors(model)
        buffers = [item.name for item in items if not item.is_parameter]
        for pattern in frozen:
            if not any(fnmatchcase(name, pattern) for name in buffers):
                raise ValueError(
                    f"frozen: {pattern!r} fits no buffer; expected patterns for some of {', '.join(buffers) or 'none'} "
                    "(a parameter is frozen by requires_grad = False)"
                )
        for item in items:
            if item.tensor.dtype not in CODES:
                raise ValueError(f"{item.name!r} has dtype {item.tensor.dtype}, expected one of {', '.join(DTYPES)}")
            can_be_pruned = is_prunable(item, prunable)
            specs.append(
                TensorSpec(
                    name=item.name,
                    dtype=item.tensor.dtype,
                    shape=tuple(item.tensor.shape),
                    role=_role(item, frozen if knows_frozen else None, prunable=can_be_pruned),
                    prunable=can_be_pruned,
                    aliases=item.names[1:],
                )
            )
        return cls(tuple(specs))

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, name: str) -> TensorSpec:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def frozen(self) -> tuple[TensorSpec, ...]:
        """What is a part of θ_0 and of no round."""
        return tuple(spec for spec in self.specs if spec.role == "frozen")

    @cached_property
    def moving(self) -> "TensorTable":
        """The table of what goes out and comes back in every round: without what is frozen."""
        return TensorTable(tuple(spec for spec in self.in_model if spec.role != "frozen")) if self.frozen else self

    @property
    def nbytes(self) -> int:
        """Size of all dense tensors together in bytes."""
        return sum(spec.nbytes for spec in self.specs)

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over everything in the table."""
        return hashlib.sha256(TensorTable(self.specs).to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the table as JSON, its rows as in the model."""
        rows = [{**asdict(spec), "dtype": CODES[spec.dtype]} for spec in self.in_model]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "TensorTable":
        """Read what `to_json` wrote, and nothing else.

        Raises:
            PayloadError: it is not such JSON, or a name, dtype, shape or size is not allowed.
        """
        if len(text) > MAX_JSON:
            raise PayloadError(f"tensor table: {len(text)} characters, expected at most {MAX_JSON}")
        try:
            rows = _ROWS.validate_json(text)
            table = cls(tuple(TensorSpec(**{**dict(row), "dtype": DTYPES[row.dtype]}) for row in rows))
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"[{reprlib.repr(part)}]" for part in first["loc"])
            raise PayloadError(f"tensor table{where}: {first['msg']}") from error
        except ValueError as error:
            raise PayloadError(f"tensor table: {error}") from error
        if table.nbytes > MAX_BYTES:
            raise PayloadError(f"tensor table: {table.nbytes} bytes of tensors, expected at most {MAX_BYTES}")
        return table

    def with_nothing_prunable(self) -> "TensorTable":
        """Return the table of the same tensors, none of which is prunable."""
        return TensorTable(tuple(replace(spec, prunable=False) for spec in self.in_model))

    def difference(self, other: "TensorTable") -> str:
        """Say in one sentence where two tables first differ; "" when they are equal."""
        for name in sorted(self._by_name.keys() | other._by_name.keys()):
            if name not in other:
                return f"tensor {name!r} is here, but not there"
            if name not in self:
                return f"tensor {name!r} is there, but not here"
            for column in fields(TensorSpec):
                mine, theirs = (getattr(table[name], column.name) for table in (self, other))
                if mine != theirs:
                    return f"tensor {name!r}: {column.name} is {mine} here, {theirs} there"
        return ""


def _role(item: ModelTensor, frozen: Sequence[str] | None, *, prunable: bool) -> Role:
    """Return the role of a tensor; `frozen` is None where none is frozen."""
    if item.is_parameter:
        return "frozen" if frozen is not None and not (item.tensor.requires_grad or prunable) else "parameter"
    return "frozen" if any(fnmatchcase(item.name, pattern) for pattern in frozen or ()) else "buffer"
