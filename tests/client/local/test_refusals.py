"""What a local algorithm may not do, and how its errors are told: in one line, with its client and its place."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lotteryfl import LocalAlgorithm, Phase
from lotteryfl.common.errors import ClientError, TaskError
from lotteryfl.common.owncode.usercode import belonging_to
from tests.client.local.locally import Followed

W = "0.weight"
HERE = r"failed at .*test_refusals\.py:\d+"


def calling(hook: str, function: Callable[..., Any]) -> type[LocalAlgorithm]:
    return type("Own", (LocalAlgorithm,), {"name": "own", hook: function})


def _replace(self: LocalAlgorithm) -> None:
    setattr(self.work.model, "0", nn.Linear(6, 12))


def _reshape(self: LocalAlgorithm) -> None:
    self.work.named_parameters()[W].data = torch.zeros(1)


def _put(self: LocalAlgorithm) -> None:
    self.work.tensors["memory"] = torch.ones(3)  # type: ignore[index]


def _resize(self: LocalAlgorithm) -> None:
    self.work.tensors["memory"].resize_(3)


def _load(self: LocalAlgorithm) -> nn.Module:
    self.work.named_parameters()[W].zero_()
    return self.work.model


def _keep(self: LocalAlgorithm) -> None:
    self.work.keep({W: torch.ones(12, 6)})


@pytest.mark.parametrize(
    ("hook", "function", "message"),
    [
        ("end", _keep, rf"end\(\) {HERE}: ValueError: work\.keep: the plan has no free mask: expected one of a strat"),
        ("begin", lambda _: 1 / 0, rf"begin\(\) {HERE}: ZeroDivisionError: division by zero"),
        ("__init__", lambda _, work: work.nothing, rf"__init__\(\) {HERE}: AttributeError: .*'nothing'"),
        ("loss", lambda *_: 1 / 0, rf"loss\(\) {HERE}: ZeroDivisionError"),
        ("before_step", lambda *_: [][0], rf"before_step\(\) {HERE}: IndexError"),
        ("loss", lambda *_: 0.0, r"loss\(\) returned float: expected a tensor of shape \(\)"),
        ("loss", lambda *_: torch.ones(2), r"loss\(\) returned a tensor of shape \(2,\): expected a tensor of shape"),
        ("end", _replace, r"the model's '0\.weight' is gone, or another stands in its place: expected torch\.float32"),
        ("end", _reshape, r"the model's '0\.weight' is gone, or another stands in its place: expected .* \(12, 6\), w"),
        ("phases", lambda _: (), r"phases\(\) returned none: expected a lotteryfl\.Phase or more"),
        ("phases", lambda _: ("2.*",), r"phases\(\) returned str, expected lotteryfl\.Phase"),
        (
            "phases",
            lambda _: (Phase(("2*", "h*")),),
            r"a phase trains 'h\*', which fits none of parameters that train",
        ),
        ("phases", lambda _: (Phase(()),), r"Phase\(trains=\(\), .*: trains nothing: expected patterns of parameters"),
        ("phases", lambda _: (Phase(tensors=("c",)),), r"trains 'c', which fits none of the strategy's tensors: b"),
        ("phases", lambda _: (Phase(tensors=("b",)),), r"'b' is of torch\.int64: expected a tensor of floating-point"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(hook: str, function: Callable[..., Any], message: str) -> None:
    with pytest.raises(TaskError, match=rf"^client 2: local algorithm own: .*{message}") as caught:
        Followed(calling(hook, function), tensors={"b": torch.zeros(2, dtype=torch.int64)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_load, "personalised() has changed the model, which has gone up: expected one of its own"),
        (lambda _: None, "personalised() returned NoneType, expected a torch.nn.Module"),
    ],
)
def test_the_model_that_is_measured_is_one_and_not_the_one_that_went_up(
    function: Callable[..., Any], message: str
) -> None:
    done = Followed(calling("personalised", function)).done
    assert done.personalised is not None
    with pytest.raises(TaskError, match=re.escape(message)):
        done.personalised()


def test_what_is_measured_before_all_else_is_a_model_and_not_the_one_that_work_begins_with() -> None:
    other = nn.Identity()
    assert Followed(calling("downloaded", lambda _: other)).downloaded is other
    followed = Followed(calling("end", lambda _: None))
    assert followed.downloaded is followed.workplace.model
    with pytest.raises(TaskError, match=r"downloaded\(\) has changed the model, which the work begins with:"):
        Followed(calling("downloaded", _load))


def test_what_others_are_told_where_an_error_may_say_nothing_is_type_and_place() -> None:
    with pytest.raises(ClientError) as caught, belonging_to(2, "tiny"):
        Followed(calling("begin", lambda _: int("a patient's name")))
    assert "a patient's name" in str(caught.value)
    assert re.fullmatch(r"client 2 of task tiny: ValueError at test_refusals\.py:\d+", caught.value.told)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_put, rf"end\(\) {HERE}: TypeError: 'mappingproxy' object does not support item assignment"),
        (
            _resize,
            r"the strategy's 'memory' is torch\.float32 of shape \(3,\): expected torch\.float32 of shape \(2,\)",
        ),
    ],
)
def test_a_strategys_tensor_is_written_to_in_place(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Followed(calling("end", function), tensors={"memory": torch.ones(2)})
