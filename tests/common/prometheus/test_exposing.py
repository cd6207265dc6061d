"""What is answered at --metrics, and what is not: one path, no traceback, and nobody waits for who is slow."""

import socket
import sys
from collections.abc import Iterable

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.prometheus.exposing import beside, check_exposed, exposed
from tests.support.scraping import get


class _One(Collector):
    def collect(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("lotteryfl_one", "One.", value=1)]


class _Failing(Collector):
    def collect(self) -> Iterable[Metric]:
        raise TimeoutError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_numbers_and_what_the_process_takes_are_answered(host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with exposed(f"{host}:0", _One()) as url:
        assert url.startswith(f"http://{host}:")
        status, text = get(url)
    assert status == 200
    assert "lotteryfl_one 1.0" in text
    assert ("process_resident_memory_bytes" in text) == sys.platform.startswith("linux")


def test_nothing_is_answered_elsewhere() -> None:
    with exposed("127.0.0.1:0", _One()) as url:
        assert get(url.replace("/metrics", "/run.db")) == (404, "expected /metrics\n")


def test_where_there_are_no_numbers_it_is_said_and_nothing_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with exposed("127.0.0.1:0", _Failing()) as url:
        assert get(url) == (503, "the run has no time to answer, or has ended\n")
    assert capfd.readouterr().err == ""


def test_who_says_nothing_holds_up_neither_the_end_nor_who_comes_later() -> None:
    with exposed("127.0.0.1:0", _One()) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        silent = socket.create_connection(("127.0.0.1", port))
    with silent, exposed("127.0.0.1:0", _One()) as url:
        assert "lotteryfl_one 1.0" in get(url)[1]


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(LotteryFLError, match=rf"^--metrics {address}: cannot listen .* in use"),
            exposed(address, _One()),
        ):
            pass


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("9100", "9100: has no port: expected HOST:PORT"),
        ("unix:/tmp/here", "--metrics unix:/tmp/here: expected HOST:PORT"),
        ("127.0.0.1:65535", "127.0.0.1:65537: port '65537': expected a number from 0 to 65535"),
    ],
)
def test_an_address_that_is_none_is_named(address: str, reason: str) -> None:
    with pytest.raises(LotteryFLError) as error:
        check_exposed(address, workers=2)
    assert str(error.value) == reason


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        LotteryFLError, match=r"^--metrics needs prometheus-client: pip install 'lotteryfl\[metrics\]'$"
    ):
        check_exposed("127.0.0.1:9100")


def test_workers_answer_at_the_ports_after() -> None:
    assert [beside("[::1]:9100", number) for number in range(3)] == ["[::1]:9100", "[::1]:9101", "[::1]:9102"]
    assert beside("127.0.0.1:0", 2) == "127.0.0.1:0"
