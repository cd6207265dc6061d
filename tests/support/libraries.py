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


HAS_ALL = "LOTTERYFL_TEST_EXTRAS" in os.environ
"""Whether these are the tests of `make test-extras`, which has all libraries: there nothing is skipped."""


def library(name: str) -> Any:
    """Import a library."""
    let_torchvision_be_imported()
    return importlib.import_module(name) if HAS_ALL else pytest.importorskip(name)


def let_torchvision_be_imported() -> None:
    """Declare its operators where it is there without them: torchmetrics and transformers import it wherever it is."""
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # operator torchvision::nms does not exist
            declare()


def environment() -> dict[str, str]:
    """Return what processes of the program need to import torchvision, once it can be imported here."""
    return {"PYTHONPATH": f"{_STARTUP}{os.pathsep}{ROOT}"} if is_declared() else {}
