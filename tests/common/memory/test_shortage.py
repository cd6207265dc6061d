"""Memory that runs out is told from other errors, and named with what was counted and what there is."""

import errno
import re
from pathlib import Path

import pytest
import torch

from lotteryfl.common.errors import ClientError, PayloadError, ShortOfMemoryError, TaskError
from lotteryfl.common.memory.bounds import Bound, left_of
from lotteryfl.common.memory.shortage import NoRoomError, is_out_of_memory, shortage_named
from lotteryfl.common.owncode.usercode import belonging_to

CPU = torch.device("cpu")


def of_the_allocator() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    return raised.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (of_the_allocator(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (NoRoomError("more than there is"), True),
        (OSError(errno.ENOENT, "out of memory"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (TaskError("no such client"), False),
    ],
)
def test_it_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    outer = TaskError("client() failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer) is expected, "also where it is behind another"


def named(error: Exception, counted: str = "") -> ShortOfMemoryError:
    with (
        pytest.raises(ShortOfMemoryError) as raised,
        shortage_named(3, "mine", lambda: counted, lambda: Bound(2000, "what is free on cuda:0")),
        belonging_to(3, "mine"),
    ):
        raise error
    return raised.value


def test_it_is_named_with_what_was_counted_and_what_there_is() -> None:
    error = named(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nsee the manual"), "1.0 kB")
    what = r"client 3 of task mine: OutOfMemoryError at test_shortage\.py:\d+"
    rest = r"CUDA out of memory\. Tried to allocate 2\.00 GiB\."
    there = r"the work was counted as 1\.0 kB, and there are 2\.0 kB \(what is free on cuda:0\)"
    assert re.fullmatch(f"{what}: {rest}; {there}", str(error))
    assert re.fullmatch(what, error.told), "type and place alone, for who must not learn of the client's data"


def test_what_was_not_counted_yet_is_not_said() -> None:
    assert "; there are 2.0 kB (what is free on cuda:0)" in str(named(MemoryError()))


def test_what_does_not_fit_says_it_itself() -> None:
    message = "the work takes 9 kB, and this worker takes on 1 kB (--max-memory): model 9 kB"
    assert str(named(NoRoomError(message))) == message


@pytest.mark.parametrize("error", [ClientError("no examples", "ClientError"), PayloadError("spoilt"), KeyError("x")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with (
        pytest.raises(type(error)) as raised,
        shortage_named(3, "mine", lambda: "", lambda: Bound(0, "nothing")),
    ):
        raise error
    assert raised.value is error


def test_where_it_ran_out_beside_the_users_code_it_is_the_clients_too() -> None:
    with (
        pytest.raises(ShortOfMemoryError, match=r"^client 3 of task mine: MemoryError at test_shortage\.py:\d+: "),
        shortage_named(3, "mine", lambda: "", lambda: Bound(0, "nothing")),
    ):
        raise MemoryError


def test_what_is_left_is_not_more_than_the_machine_has_free(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 4 kB\n")
    assert left_of(CPU, tmp_path) == Bound(4096, "what is free of the machine's memory")
