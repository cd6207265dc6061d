"""Which hosts, and what each has of its own."""

from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.ssh.settings import HostSettings, SSHSettings


def test_hosts_of_a_file_come_after_those_of_the_list(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "# the lab\n\ngpu1 devices=cuda:0,1 workers_per_device=2 data_dir='/my data'  # two cards\n"
        "me@gpu2 program=~/venv/bin/lotteryfl workers_per_device=auto\n[2001:db8::1]\n"
    )
    settings = SSHSettings.model_validate({"hosts": ["login"], "hosts_file": str(file)})
    assert settings.all_hosts() == (
        HostSettings(host="login"),
        HostSettings(host="gpu1", devices="cuda:0,1", workers_per_device=2, data_dir="/my data"),
        HostSettings(host="me@gpu2", program="~/venv/bin/lotteryfl", workers_per_device="auto"),
        HostSettings(host="[2001:db8::1]"),
    )
    assert [host.name for host in settings.all_hosts()] == ["login", "gpu1", "me@gpu2", "2001-db8--1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "ssh.hosts: names no host"),
        ("a\nb cores=3\n", "line 2: unknown key cores = '3'; allowed here: host, devices"),
        ("a workers_per_device=0\n", "line 1: workers_per_device"),
        ("-oProxyCommand=x\n", "line 1: ssh.hosts: '-oProxyCommand=x': expected HOST"),
        ("a;b\n", "ssh.hosts: 'a;b': expected HOST"),
        ("a 'b\n", "line 1: No closing quotation"),
        ("a\na\n", "ssh.hosts: a is given 2 times"),
        ("a program=-c\n", "program = '-c': expected how lotteryfl is called there"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    with pytest.raises(LotteryFLError) as error:
        SSHSettings(hosts_file=str(file)).all_hosts()
    assert expected in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LotteryFLError, match=r"ssh\.hosts_file = .*: cannot be read"):
        SSHSettings(hosts_file=str(tmp_path / "hosts")).all_hosts()
