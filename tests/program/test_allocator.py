"""Large buffers come from memory that was freed, not from fresh pages."""

import platform
import subprocess
import sys

import pytest

from lotteryfl.allocator import keep_freed_memory

FAULTS = """
import ctypes, resource
from lotteryfl.allocator import keep_freed_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]

def use_some_chunks():
    chunks = [library.malloc(1 << 20) for _ in range(8)]
    for chunk in chunks:
        ctypes.memset(chunk, 1, 1 << 20)
    for chunk in chunks:
        library.free(chunk)

assert keep_freed_memory()
use_some_chunks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use_some_chunks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again() -> None:
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 100  # by default some 20,000: one for each page, every time


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
