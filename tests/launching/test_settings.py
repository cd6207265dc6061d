"""Settings of a launch: which of three places counts, and one line about what is wrong."""

from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.launching.settings import LaunchSettings, launch_settings


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config/lotteryfl"
    folder.mkdir(parents=True)
    return folder


def experiment(folder: Path, launch: str = "") -> Path:
    path = folder / "experiment.toml"
    path.write_text(f"rounds = 2\n{launch}")
    return path


def test_what_is_said_later_counts_key_by_key(tmp_path: Path, profiles: Path) -> None:
    (profiles / "mine.toml").write_text('program = "a"\ndata_dir = "b"\ndevices = "cpu"\nssh.hosts = ["h"]\n')
    path = experiment(tmp_path, '[launch]\ndata_dir = "c"\ndevices = "cuda:0"\n[launch.ssh]\nconnect_seconds = 3\n')
    settings = launch_settings(path, "mine", ["devices=all", "ssh.reconnect_seconds=4"])
    assert (settings.program, settings.data_dir, settings.devices) == ("a", "c", "all")
    ssh = settings.ssh
    assert ([host.host for host in ssh.hosts], ssh.connect_seconds, ssh.reconnect_seconds) == (["h"], 3, 4)


def test_the_default_profile_counts_where_none_is_named(tmp_path: Path, profiles: Path) -> None:
    path = experiment(tmp_path)
    assert launch_settings(path, "", []) == LaunchSettings()
    (profiles / "default.toml").write_text('data_dir = "here"\n')
    (tmp_path / "other.toml").write_text('data_dir = "there"\n')
    assert launch_settings(path, "", []).data_dir == "here"
    assert launch_settings(path, str(tmp_path / "other.toml"), []).data_dir == "there"
    assert launch_settings(tmp_path, "", []).data_dir == "here"  # of a run directory


@pytest.mark.parametrize(
    ("launch", "given", "expected"),
    [
        ("[launch]\nprogramm = 1\n", "", "[launch]: unknown key programm = 1; allowed here: program, setup"),
        ("[launch.ssh]\nhots = 1\n", "", "[launch]: unknown key ssh.hots = 1; allowed here: hosts, "),
        ('[launch]\nssh.hosts = [{host = "a", port = 1}]\n', "", "ssh.hosts.0.port = 1; allowed here: host, devices"),
        ("launch = 3\n", "", "launch = 3: expected a section, [launch]"),
        ("", "workers_per_device=0", "--with: workers_per_device"),
        ("", "devices", "--with devices: expected KEY=VALUE, as in --with ssh.hosts=gpu1,gpu2"),
        ("", "program=--help", "program = '--help': expected how lotteryfl is called there"),
        ("", 'program="a\'b"', 'program = "a\'b": No closing quotation'),
        ("", "environment.API_TOKEN=x", "environment.API_TOKEN: is called as a secret is"),
        ("", 'environment={"A;B" = "x"}', "environment.A;B: is no name of a variable"),
        ("", "ssh.hosts=a,-oProxyCommand=x", "ssh.hosts: '-oProxyCommand=x': expected HOST"),
        ("", "ssh.hosts=a,b,a", "ssh.hosts: a is given 2 times"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, launch: str, given: str, expected: str) -> None:
    with pytest.raises(ExperimentError) as error:
        launch_settings(experiment(tmp_path, launch), "", [given] if given else [])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_that_is_not_there_is_named(tmp_path: Path, profiles: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nobodys\.toml: No such file"):
        launch_settings(experiment(tmp_path), "nobodys", [])
