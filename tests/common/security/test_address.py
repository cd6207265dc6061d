"""Addresses: what is none is named for what is wrong with it, before anything is called or listened at."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.common.security.address import AddressError, check_address
from lotteryfl.common.security.channel import open_channel
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.program import program
from lotteryfl.server.rpc.endpoint import Endpoint

GOOD = (
    "localhost:7000",
    "10.0.0.1:1",
    "[::1]:65535",
    "[fe80::1%eth0]:7",
    "a-b.example.org:7000",
    "unix:/run/x",
    "unix-abstract:x",
)
WRONG = {
    "localhost": "has no port",
    "[::1]": "has no port",
    "": "has no port",
    ":7999": "has no host",
    "http://host:1": "expected HOST:PORT, as host:1, without http://",
    "dns:///host:1/path": "expected HOST:PORT, as host:1, without dns://",
    "::1:7105": r"in brackets and a port, as \[::1\]:7000",
    "::1": r"in brackets and a port, as \[::1\]:7000",
    "host:99999": "port '99999': expected a number from 1 to 65535",
    "host:65536": "port '65536'",
    "host:0": "port '0'",
    "host:": "port ''",
    "host:http": "port 'http'",
    "host:+1": r"port '\+1'",
    "host:\uff17": "port",
    "host:7000/": "port '7000/'",
    "host/path:1": "'host/path' is no host",
    "user@host:1": "'user@host' is no host",
    "a:b:1": "'a:b' is no host",
    "[host]:1": r"'\[host\]' is no host",
    "ho st:1": "'ho st' is no host",
}


@pytest.mark.parametrize("address", GOOD)
def test_an_address_may_be_called_and_listened_at(address: str) -> None:
    check_address(address)
    check_address(address, listens=True)


def test_any_free_port_can_be_listened_at_and_not_called() -> None:
    check_address("127.0.0.1:0", listens=True)
    with pytest.raises(AddressError, match="port '0'"):
        check_address("127.0.0.1:0")


@pytest.mark.parametrize(("address", "wrong"), WRONG.items())
def test_what_is_no_address_is_named(address: str, wrong: str) -> None:
    with pytest.raises(AddressError, match=rf"{wrong}") as error:
        open_channel(address, ChannelSecurity(insecure=True))
    assert str(error.value).startswith(f"{address}: ")
    if not address.endswith(":0"):
        with pytest.raises(AddressError):
            Endpoint(address, insecure=True).check()
        with pytest.raises(AddressError):
            Endpoint("127.0.0.1:0", health=address or ":").check()


@pytest.mark.parametrize(
    "arguments", [("status", "http://host:1"), ("serve", "x.toml", "--listen", ":7999"), ("status", "::1:7105")]
)
def test_commands_say_so_at_once(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(program, arguments, standalone_mode=False)
    assert isinstance(result.exception, AddressError)
