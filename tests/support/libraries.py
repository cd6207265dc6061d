"""Libraries of the extras that models come from: imported for a test, which is skipped where they are missing."""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.torchvisionoperators import declare, is_declared

_STARTUP = Path(__file__).with_name("startup")


def library(name: str) -> Any:
    """Import a library, torchvision beside any torch.

    `make test-extras` has them all, and says so: there nothing is skipped.
    """
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # operator torchvision::nms does not exist
            declare()
    return importlib.import_module(name) if "LOTTERYFL_TEST_EXTRAS" in os.environ else pytest.importorskip(name)


def environment() -> dict[str, str]:
    """Return what processes of the program need to import torchvision, once `library` was called."""
    return {"PYTHONPATH": f"{_STARTUP}{os.pathsep}{ROOT}"} if is_declared() else {}
