"""What a user's code raises belongs to the client whose work it is, with the line that the user can mend."""

import asyncio
from pathlib import Path

import pytest
import torch

from lotteryfl.client.leases import LeaseLostError
from lotteryfl.common.errors import ClientError, PayloadError, TaskError
from lotteryfl.common.owncode.usercode import belonging_to, import_source, located

CODE = """
import torch

def fail(kind):
    raise kind("one" + chr(10) + "two")

def shapes():
    return torch.ones(2) @ torch.ones(3)
"""


@pytest.fixture
def code(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "code.py").write_text(CODE)
    return import_source("task code", str(tmp_path / "code.py"), TaskError)


@pytest.mark.parametrize("kind", [OSError, MemoryError, AssertionError, SystemExit, torch.OutOfMemoryError])
def test_whatever_it_raises_is_the_clients(code, kind: type[BaseException]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ClientError) as caught, belonging_to(3, "code"):
        code.fail(kind)
    told = f"client 3 of task code: {kind.__name__} at code.py:5"
    assert (caught.value.told, str(caught.value)) == (told, f"{told}: one")


def test_the_place_is_the_users_and_not_that_of_a_library(code) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ClientError) as caught, belonging_to(3, "code"):
        code.shapes()
    assert caught.value.told == "client 3 of task code: RuntimeError at code.py:8"


def test_what_is_named_already_keeps_its_words_and_is_told_without_them(code) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ClientError) as caught, belonging_to(3, "code"), located("client() failed", None, TaskError):
        code.fail(ValueError)
    assert str(caught.value) == "client() failed: ValueError: one"
    assert caught.value.told == "client 3 of task code: ValueError at code.py:5"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, LeaseLostError, asyncio.CancelledError, PayloadError])
def test_what_ends_the_process_or_the_work_passes(code, kind: type[BaseException]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind), belonging_to(3, "code"):
        code.fail(kind)
