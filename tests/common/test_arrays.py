"""numpy arrays of any strides and byte order become the tensors that their values are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common.arrays import native, to_tensor

ORDERS = ["<", ">"]
KINDS = ["f2", "f4", "f8", "i2", "i4", "i8", "u1"]


@given(
    st.sampled_from(ORDERS),
    st.sampled_from(KINDS),
    st.sampled_from([(slice(None, None, -1),), (slice(None), slice(None, None, -2)), (slice(1, None, 2),), ()]),
)
def test_any_view_has_its_values(order: str, kind: str, view: tuple[slice, ...]) -> None:
    array = np.arange(12).reshape(3, 4).astype(order + kind)[view]
    tensor = to_tensor(array)
    assert tensor.tolist() == array.tolist()
    assert tensor.dtype == (torch.float32 if kind[0] == "f" else torch.as_tensor(native(array)).dtype)


def test_a_field_of_records_and_a_single_number() -> None:
    records = np.zeros(3, dtype=[("flag", "i1"), ("value", ">f4")])
    records["value"] = [1, 2, 3]
    assert to_tensor(records["value"]).tolist() == [1, 2, 3]
    assert to_tensor(np.array(7, ">i8")).item() == 7


def test_what_torch_can_take_is_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert native(array) is array
    turned = array.T
    assert native(turned) is turned
    tensor = torch.ones(2)
    assert to_tensor(tensor) is tensor


def test_text_is_refused() -> None:
    with pytest.raises(TypeError):
        to_tensor(np.array(["a", ""]))
