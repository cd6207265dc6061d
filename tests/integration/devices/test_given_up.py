"""Workers that die whatever is done, or cannot be started; here processes are no more than their first line."""

import asyncio
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import MAX_NAME, IdentityError
from lotteryfl.running.device import Place
from lotteryfl.running.deviceworkers import DeviceWorkers, _Child
from lotteryfl.running.workerprocesses import MOST_RESTARTS

PROCESS = """
import os, sys, time
from pathlib import Path
if "--name=host/cpu/1" in sys.orig_argv:
    print("no luck", file=sys.stderr, flush=True)
    os._exit(9)
while not Path("end").exists():
    time.sleep(0.01)
os._exit({code})
"""


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> tuple[list[str], LotteryFLError]:
    """Have two workers; the second ends with this code once the first has been given up. Return what was told."""
    (tmp_path / "sitecustomize.py").write_text(PROCESS.format(code=code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if " has ended, " in text:
            Path("end").touch()

    with pytest.raises(LotteryFLError) as raised:
        asyncio.run(DeviceWorkers([Place("cpu", "cpu")], 2, "host", ["work"], note).run())
    return notes, raised.value


def test_it_is_given_up_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes, error = run(tmp_path, monkeypatch, 0)
    died = "host/cpu/1 has died and is started again: exit code 9: no luck"
    assert notes == [died] * MOST_RESTARTS + ["host/cpu/1 has ended, 1 of 2 go on: exit code 9: no luck"]
    assert str(error) == "not all workers ended well: host/cpu/1: exit code 9: no luck"
    assert error.exit_code == 9
    assert capsys.readouterr().err == "cpu/1: no luck\n" * (1 + MOST_RESTARTS)


def test_where_all_have_ended_badly_each_reason_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, error = run(tmp_path, monkeypatch, 2)
    assert notes[-1] == "host/cpu/2 has ended, 0 of 2 go on: exit code 2: it said nothing"
    reasons = "host/cpu/1: exit code 9: no luck; host/cpu/2: exit code 2: it said nothing"
    assert str(error) == f"not all workers ended well: {reasons}"
    assert error.exit_code == 1


SAYING = """
import os, re, sys, time
line = int(re.search(r"--parent=(\\d+)", " ".join(sys.orig_argv))[1])
os.write(line, b'{"threads": 1}\\n')
time.sleep(60)
"""


def test_a_name_that_is_too_long_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the tenth worker is, which is started beside the first nine."""
    (tmp_path / "sitecustomize.py").write_text(SAYING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    name = "n" * (MAX_NAME - len("/cpu/1"))
    workers = DeviceWorkers([Place("cpu", "cpu")], None, name, ["work"], lambda _: None)
    workers._cores = 10
    with pytest.raises(IdentityError, match="expected 1 to"):
        asyncio.run(workers.run())


def test_who_is_not_started_yet_can_be_told_to_leave() -> None:
    place = Place("cpu", "cpu")
    workers = DeviceWorkers([place], 1, "host", ["work"], lambda _: None)
    workers._children["host/cpu/1"] = child = _Child(place)
    workers._have_leave("host/cpu/1")
    assert child.leaves
