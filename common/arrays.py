"""Others' numpy arrays as torch can take them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_NUMBERS = "biufc"
"""Kinds of dtypes whose order of bytes and strides are ours to mend."""


def native(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return the array itself where torch can take it, or a copy of one that lies backwards or in foreign bytes."""
    if array.dtype.kind not in _NUMBERS:
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    strange = any(stride < 0 or stride % array.itemsize for stride in array.strides)
    return np.ascontiguousarray(array) if strange else array


def to_tensor(values: Tensor | npt.NDArray[np.generic]) -> Tensor:
    """Return an array as a tensor, floating point in torch's default dtype; a tensor as it is.

    Raises:
        TypeError: torch has no such dtype.
    """
    if isinstance(values, Tensor):
        return values
    array = native(values)
    return torch.as_tensor(array, dtype=torch.get_default_dtype() if array.dtype.kind == "f" else None)
