"""Every test that names a device, on it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.row import Row, check
from benchmarks.gpu.runs import Setting

SECONDS = 60.0

_ROOT = Path(__file__).parents[3]
_NAMES = "tests.support.devices import DEVICES"


def rows(setting: Setting) -> Iterator[Row]:
    """Run them, file by file, so that what is done is written down."""
    kind = torch.device(setting.device).type
    files = sorted(path for path in (_ROOT / "tests").rglob("test_*.py") if _NAMES in path.read_text(encoding="utf-8"))
    for path in files[:1] if setting.quick else files:
        name = str(path.relative_to(_ROOT))
        command = [sys.executable, "-m", "pytest", name, "-k", kind, "-p", "no:cacheprovider", "-n", "0"]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        said = [line for line in done.stdout.splitlines() if " passed" in line or " failed" in line or " error" in line]
        yield check(name, done.returncode == 0, said[-1].strip(" =") if said else done.stderr.strip()[-200:])
