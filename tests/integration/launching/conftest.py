"""A host that ssh reaches, and experiments that are launched there."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.runs import GATED, Write
from tests.support.sshd import SSHD, running_sshd

Launched = Callable[..., Path]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHD]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as sshd_:
        yield sshd_


@pytest.fixture
def host(sshd: SSHD) -> Iterator[SSHD]:
    """One where nothing is left when the test is over."""
    yield sshd
    assert sshd.is_deserted()


@pytest.fixture
def launched(host: SSHD, write: Write) -> Launched:
    """Write an experiment whose `[launch]` is for hosts by port: `launched({"alpha": host.port}, gate.env)`."""

    def launched_(ports: dict[str, int], environment: dict[str, str] | None = None, **settings: Any) -> Path:
        launch = {
            "program": f"{sys.executable} -P -m lotteryfl",
            "devices": "cpu",
            "environment": {"PYTHONPATH": str(ROOT), **(environment or {})},
            "ssh": {"hosts": list(ports), "config": str(host.aliases(ports))},
        }
        return write({**GATED, "launch": {**launch, **settings}})

    return launched_
