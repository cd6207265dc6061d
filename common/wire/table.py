"""The table of a model's tensors and of its strategy's: what a payload must look like, and whether two are the same."""

import hashlib
import json
import reprlib
from collections.abc import Callable, Collection, Iterator, Sequence
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

Role = Literal["parameter", "buffer", "frozen", "shared", "own", "up"]
"""`frozen`: a part of θ_0 that never changes and goes with no round, be it a parameter or a buffer. The last three
are those of a strategy's own tensors, see `common.wire.strategytensor`."""

Combine = Literal["", "mean", "sum", "kept", "none"]
"""How the clients' values of a strategy's tensor are put together; '': they are not; none: no client sends any."""

_ADDED = ("shared", "own", "up")
"""Roles of a strategy's own tensors."""

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
    combine: Literal["mean", "sum", "kept", "none", ""] = ""
    like: Annotated[str, Field(max_length=512)] = ""
    masked: bool = False
    fill: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    fixed: bool = False


_UNSET = {name: field.default for name, field in _Row.model_fields.items() if not field.is_required()}
"""What stands in the columns that are a strategy's where nothing is said: it is not written."""

_ROWS = TypeAdapter(Annotated[list[_Row], Field(max_length=MAX_TENSORS)])


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model, or of a strategy's own."""

    name: str
    """Its plain name, see `common.pruning.parameters`."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    role: Role
    prunable: bool
    aliases: tuple[str, ...] = ()
    """Its other names in the state dict, where modules share it."""
    combine: Combine = ""
    """How what clients send of it is put together."""
    like: str = ""
    """The model's tensor that it has the shape of, one value for each of its values; '': none."""
    masked: bool = False
    """It travels under the mask of that tensor, and is 0 off it."""
    fill: float = 0.0
    """What all its values are before the first round."""
    fixed: bool = False
    """It is the strategy that has it frozen: the task would train it."""

    def __post_init__(self) -> None:
        if self.fixed and self.role != "frozen":
            raise ValueError(f"{self.name!r} is fixed: expected it frozen, not a {self.role}")
        if self.prunable and not ((self.role == "parameter" or self.fixed) and self.dtype.is_floating_point):
            raise ValueError(f"{self.name!r} is prunable: expected a parameter of floating point")
        if self.is_added:
            self._check_added()
        elif (self.combine, self.like, self.masked, self.fill) != ("", "", False, 0):
            raise ValueError(f"{self.name!r} is a {self.role}: expected no columns of a strategy's own tensor")

    def _check_added(self) -> None:
        if self.aliases or bool(self.combine) != (self.role != "own"):
            raise ValueError(f"{self.name!r}: combine = {self.combine!r}, expected one, and none of a client's own")
        if self.combine == "none" and self.role != "shared":
            raise ValueError(f"{self.name!r}: combine = 'none', expected it of what is shared alone")
        if not (self.dtype.is_floating_point or (self.dtype is torch.bool and self.role != "shared")):
            raise ValueError(f"{self.name!r}: {self.dtype}, expected floating point, or bool where it is not shared")
        if self.masked and (not self.like or self.is_bits):
            raise ValueError(f"{self.name!r} is masked: expected floating point, like a tensor of the model")
        most = torch.finfo(self.dtype).max if self.dtype.is_floating_point else 1
        if not abs(self.fill) <= most:  # NaN is refused too
            raise ValueError(f"{self.name!r}: fill = {self.fill}, expected at most {most} either way in {self.dtype}")

    @property
    def is_added(self) -> bool:
        """Whether it is a strategy's own, not the model's."""
        return self.role in _ADDED

    @property
    def is_bits(self) -> bool:
        """Whether it travels as packed bits."""
        return self.is_added and self.dtype is torch.bool

    def comes_back(self, sends: Sequence[str]) -> bool:
        """Tell whether it comes back with a result whose plan sends these."""
        return self.combine != "none" if self.role != "up" else any(is_meant(self.name, pattern) for pattern in sends)

    @property
    def under(self) -> str:
        """The name of the tensor whose mask it travels under, where that has one."""
        return self.like if self.is_added and self.masked else "" if self.is_added else self.name

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
    """The tensors of a model, and of its strategy, in name order; the same whether the model is plain or pruned.

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
        return self._where(lambda spec: spec.role != "frozen")

    @cached_property
    def model(self) -> "TensorTable":
        """The table of the model alone."""
        return self._where(lambda spec: not spec.is_added)

    @cached_property
    def added(self) -> tuple[TensorSpec, ...]:
        """The strategy's own tensors."""
        return tuple(spec for spec in self.specs if spec.is_added)

    @cached_property
    def lasting(self) -> "TensorTable":
        """The table of what a model's file holds and goes down: without what only comes up."""
        return self._where(lambda spec: spec.role != "up")

    def sending(self, sends: Sequence[str]) -> "TensorTable":
        """Return the table of what comes back with a result: of what only comes up, what `Plan.sends` names."""
        return self._where(lambda spec: spec.comes_back(sends))

    def fixing(self, names: Collection[str]) -> "TensorTable":
        """Return the table with these parameters fixed, and no others.

        Raises:
            ValueError: one is no parameter that moves.
        """
        trained = (replace(spec, role="parameter", fixed=False) if spec.fixed else spec for spec in self.in_model)
        table = {spec.name: spec for spec in trained}
        for name in sorted(names):
            if name not in table or table[name].role != "parameter":
                raise ValueError(f"fixed: {name!r} is no parameter that the task trains")
            table[name] = replace(table[name], role="frozen", fixed=True)
        return TensorTable(tuple(table.values()))

    def _where(self, is_wanted: Callable[[TensorSpec], bool]) -> "TensorTable":
        wanted = tuple(spec for spec in self.in_model if is_wanted(spec))
        return self if len(wanted) == len(self.specs) else TensorTable(wanted)

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
        rows = [{key: row[key] for key in row if row[key] != _UNSET.get(key)} for row in rows]
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
            table.check_likes()
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"[{reprlib.repr(part)}]" for part in first["loc"])
            raise PayloadError(f"tensor table{where}: {first['msg']}") from error
        except ValueError as error:
            raise PayloadError(f"tensor table: {error}") from error
        if table.nbytes > MAX_BYTES:
            raise PayloadError(f"tensor table: {table.nbytes} bytes of tensors, expected at most {MAX_BYTES}")
        return table

    def check_likes(self) -> None:
        """Check that what is like a tensor of the model has one, which the task trains, and its shape.

        Raises:
            ValueError: it has not.
        """
        for spec in self.added:
            twin = self._by_name.get(spec.like)
            is_trained = twin is not None and (twin.role == "parameter" or twin.fixed)
            if spec.like and (twin is None or not is_trained or twin.shape != spec.shape):
                shape = list(spec.shape)
                raise ValueError(f"{spec.name!r} is like {spec.like!r}: expected a parameter of shape {shape}")

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


def is_meant(name: str, pattern: str) -> bool:
    """Tell whether a strategy's pattern means this tensor of its own: by the name it declared, or by the row's."""
    return pattern == name or any(fnmatchcase(each, pattern) for each in (name, name.partition(":")[0]))


def _role(item: ModelTensor, frozen: Sequence[str] | None, *, prunable: bool) -> Role:
    """Return the role of a tensor; `frozen` is None where none is frozen."""
    if item.is_parameter:
        return "frozen" if frozen is not None and not (item.tensor.requires_grad or prunable) else "parameter"
    return "frozen" if any(fnmatchcase(item.name, pattern) for pattern in frozen or ()) else "buffer"
