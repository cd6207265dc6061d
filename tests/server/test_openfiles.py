"""How many connections there may be: half of the files that the process may open, when it may open all it can."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from server.openfiles import connection_limit
print(connection_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "expected"), [(200, 400, "200 400 400"), (300, 300, "150 300 300")])
def test_the_other_half_is_for_the_run(soft: int, hard: int, expected: str) -> None:
    command = [sys.executable, "-c", CODE, str(soft), str(hard)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == expected
