"""docs/reliability.md: the timeouts are the code's, their relations hold, and every test that it names is there."""

import re
from importlib import import_module

import pytest
from click.testing import CliRunner

from lotteryfl.commands.work import work
from lotteryfl.common.experiment.settings import MIN_LEASE_SECONDS, RoundSettings
from lotteryfl.common.security.channel import (
    CALL_SECONDS,
    CLIENT_OPTIONS,
    CONNECT_SECONDS,
    GOODBYE_SECONDS,
    POLL_SECONDS,
    SERVER_OPTIONS,
    STREAM_IDLE_SECONDS,
)
from lotteryfl.running.workerprocesses import STOP_SECONDS as LOCAL_WORKERS_SECONDS
from lotteryfl.server.rpc.server import _STOP_SECONDS as CLOSING_SECONDS
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([\d.]+) s \| `([^`]+)` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("name", "default", "where"), ROWS)
def test_a_timeout_is_the_one_in_the_code(name: str, default: str, where: str) -> None:
    if where.startswith("round."):
        found = getattr(RoundSettings(), where.removeprefix("round."))
    elif where.startswith("lotteryfl work"):
        (found,) = (option.default for option in work.params if where.endswith(option.opts[0]))
        assert f"default: {found}" in CliRunner().invoke(work, ["--help"]).output
    elif where.endswith(".yml"):
        (found,) = re.findall(r"stop_grace_period: (\d+)s", (ROOT / where).read_text(encoding="utf-8"))
    else:
        module, _, constant = where.rpartition(".")
        found = getattr(import_module(module), constant)
    assert float(default) == float(found), name


def test_all_timeouts_with_a_number_were_looked_at() -> None:
    assert len(ROWS) == len(re.findall(r"^\| [^|]+ \| [\d.]+ s \|", TEXT, re.MULTILINE)) >= 10


def test_relations_that_nobody_can_set_hold() -> None:
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    keepalive = (client["grpc.keepalive_time_ms"] + client["grpc.keepalive_timeout_ms"]) / 1000
    assert f"| keepalive | {client['grpc.keepalive_time_ms'] // 1000} + " in TEXT
    assert keepalive < STREAM_IDLE_SECONDS
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]
    assert MIN_LEASE_SECONDS <= CALL_SECONDS < RoundSettings().lease <= RoundSettings().deadline
    assert CONNECT_SECONDS < CALL_SECONDS < POLL_SECONDS
    assert GOODBYE_SECONDS < LOCAL_WORKERS_SECONDS  # as for any other who stops workers
    assert CLOSING_SECONDS < LOCAL_WORKERS_SECONDS


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT))))
def test_a_test_that_is_named_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {function}" in source
