"""What goes to a device and comes back: the same values under the same names, many at a time."""

import pytest
import torch
from torch import Tensor

from lotteryfl.common import transfer
from lotteryfl.common.transfer import (
    copied_together,
    copy_into,
    fetched_counts,
    home_of,
    sent,
    to_device,
    to_host,
)
from tests.support.devices import CARD, DEVICES, ELSEWHERE, play_card


def tensors() -> dict[str, Tensor]:
    """Of all forms: of no dimensions, of no elements, strided, and of several dtypes in turn."""
    return {
        "weight": torch.randn(3, 4),
        "count": torch.tensor(7),
        "turned": torch.arange(6.0).view(2, 3).t(),
        "empty": torch.empty(0, 5),
        "mask": torch.tensor([True, False, True]),
        "bias": torch.randn(5),
        "half": torch.randn(2, 2, dtype=torch.bfloat16),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name].cpu(), tensor), name


def test_small_tensors_of_a_dtype_are_copied_as_one_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []

    def copy(flat: list[Tensor]) -> Tensor:
        copies.append(sum(part.nbytes for part in flat))
        return torch.cat(flat)

    given = tensors()
    found = copied_together(given, copy)
    assert_same({name: found[name] for name in given}, given)
    assert sorted(copies) == [3, 8, 8, (12 + 6 + 5) * 4]

    copies.clear()
    monkeypatch.setattr(transfer, "_TOGETHER", 44)
    found = copied_together(given, copy)
    assert_same({name: found[name] for name in given}, given)
    assert sorted(copies) == [3, 8, 8, (6 + 5) * 4, 12 * 4]

    copies.clear()
    monkeypatch.setattr(transfer, "_TOGETHER", 40)
    found = copied_together(given, copy)
    assert_same({name: found[name] for name in given}, given)
    assert sorted(copies) == [3, 8, 8, 5 * 4, 6 * 4, 12 * 4]


@pytest.mark.parametrize("device", DEVICES)
def test_there_and_back_all_is_as_it_was(device: str) -> None:
    given = tensors()
    there = to_device(given, torch.device(device))
    assert all(tensor.device.type == device for tensor in there.values())
    assert_same(there, given)
    assert_same(to_host(there), given)
    assert torch.equal(sent(given["turned"], torch.device(device)).cpu(), given["turned"])
    targets = {name: torch.zeros_like(tensor, device=device) for name, tensor in given.items()}
    copy_into(targets, given)
    assert_same(targets, given)
    targets = {name: torch.zeros_like(tensor) for name, tensor in given.items()}
    copy_into(targets, there)
    assert_same(targets, given)


def test_what_is_there_already_is_not_copied() -> None:
    given = tensors()
    assert all(tensor is given[name] for name, tensor in to_device(given, torch.device("cpu")).items())
    assert all(tensor is given[name] for name, tensor in to_host(given).items())


@pytest.mark.parametrize("device", DEVICES)
def test_counts_are_fetched_in_their_order(device: str) -> None:
    assert fetched_counts(torch.tensor(count, device=device) for count in (3, 1, 2)) == [3, 1, 2]
    assert fetched_counts([]) == []


def test_examples_lie_on_a_device_where_they_take_at_most_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=80, total=1000)
    small, large = torch.zeros(10), torch.zeros(11)
    assert home_of([small], CARD) == CARD
    assert home_of([large], CARD) == torch.device("cpu")
    assert home_of([small, small], CARD) == torch.device("cpu")
    assert home_of([large], torch.device("cpu")) == torch.device("cpu")
    play_card(monkeypatch, free=0, total=1000)
    assert home_of([torch.zeros(10, device=ELSEWHERE)], ELSEWHERE) == ELSEWHERE, "it is there already"
