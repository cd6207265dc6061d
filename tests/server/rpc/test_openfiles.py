"""A coordinator may open as many files as its limit can be raised to."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from lotteryfl.server.rpc.openfiles import allow_more_files, open_files
allow_more_files()
print(open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "expected"), [(200, 400, "400 400 400"), (300, 300, "300 300 300")])
def test_the_limit_is_raised_as_far_as_it_goes(soft: int, hard: int, expected: str) -> None:
    command = [sys.executable, "-c", CODE, str(soft), str(hard)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == expected
