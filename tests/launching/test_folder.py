"""What is kept of a launch: its owner's alone, read back as it was written, and never more than once at a time."""

import stat
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.certificate import load_certificate
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.ssh.settings import HostSettings, SSHSettings
from lotteryfl.running.owncode import OwnCode


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    own = OwnCode(("task.py",), ("strategy.py",), True, ("local.py",), False)
    settings = LaunchSettings(
        program="there",
        setup=("module load x",),
        environment={"A": "b"},
        ssh=SSHSettings(hosts=(HostSettings(host="a"), HostSettings(host="b", devices="cpu"))),
    )
    source, run_dir = tmp_path / "e.toml", tmp_path / "run"
    return Request(source, run_dir, ("rounds=2",), own, settings, LaunchFolder(run_dir))


def test_another_process_reads_what_was_launched(request_: Request) -> None:
    folder = request_.folder
    assert not folder.is_up
    folder.begin(request_.record("ssh"))
    folder.note("jobs", ["17"])
    folder.note("jobs", ["17", "18"])
    assert folder.is_up
    assert folder.started("jobs") == ("17", "18")
    assert folder.started("tasks") == ()
    assert Request.of_record(request_.run_dir, folder) == request_
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.logs)] == [0o700, 0o700]
    assert stat.S_IMODE((folder.path / "launch.json").stat().st_mode) == 0o600


def test_one_thing_is_launched_at_a_time(request_: Request) -> None:
    request_.folder.begin(request_.record("ssh"))
    with pytest.raises(LotteryFLError, match="is launched already: follow it, or take it down with --down"):
        request_.folder.begin(request_.record("ssh"))


def test_certificates_go_with_the_launch_and_logs_stay(request_: Request) -> None:
    folder = request_.folder
    folder.begin(request_.record("ssh"))
    (folder.logs / "host.log").write_text("said")
    folder.make_certificates(["example.org"], ["worker"])
    for name in ("coordinator", "worker", "observer"):
        files = folder.certificate(name)
        assert files.pair() is not None
        assert files.authorities() is not None
        assert files.cert is not None
        load_certificate(files.cert)
    for _ in range(2):
        folder.end()
        assert [path.name for path in folder.path.iterdir()] == ["logs"]
    assert (folder.logs / "host.log").read_text() == "said"


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "ssh"}', '{"kind": "ssh", "source": "x", "more": 1}'])
def test_a_damaged_record_is_named(request_: Request, text: str) -> None:
    folder = request_.folder
    folder.begin(request_.record("ssh"))
    (folder.path / "launch.json").write_text(text)
    with pytest.raises(LotteryFLError, match=r"launch\.json: "):
        folder.record()


def test_a_record_beyond_all_bounds_is_not_read(request_: Request) -> None:
    request_.folder.begin(request_.record("ssh"))
    with (request_.folder.path / "launch.json").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(LotteryFLError, match="expected at most"):
        request_.folder.record()


def test_own_code_is_named_there_as_here_unless_the_settings_name_it_there(request_: Request) -> None:
    arguments = request_.work_arguments()
    assert {"--task=task.py", "--local=local.py", "--any-task-version"} <= set(arguments)
    there = Request(
        request_.source,
        request_.run_dir,
        (),
        request_.own,
        LaunchSettings(arguments=("--task=/there/task.py",)),
        request_.folder,
    )
    assert [word for word in there.work_arguments() if word.startswith("--task")] == ["--task=/there/task.py"]
