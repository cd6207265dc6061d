"""The benchmark beside a peer works, on our side and, where the peer is installed, on its own."""

import sys
from pathlib import Path

import pytest

from benchmarks import peer
from benchmarks.started import ROOT, Started

PYTHON = ROOT / ".venv-peer" / "bin" / "python"
(CASE,) = peer.QUICK.cases


def started(folder: Path, code: str) -> Started:
    return Started(folder / "said", [sys.executable, "-c", code], {"SAID": "hello"})


def test_a_process_is_watched_to_its_end(tmp_path: Path) -> None:
    process = started(tmp_path, "import os, time; print(os.environ['SAID']); x = b'1' * 200_000_000; time.sleep(0.5)")
    memory = process.memory_until_end()
    assert memory.resident >= memory.own > 200
    assert process.lines() == ["hello"]


def test_a_process_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 1: broken$"):
        started(tmp_path, "raise SystemExit('broken')").memory_until_end()
    with pytest.raises(RuntimeError, match="ended with 0"):
        started(tmp_path, "").wait_for_port("127.0.0.1", 1)


def test_a_python_without_the_peer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["peer", sys.executable])
    with pytest.raises(SystemExit):
        peer.main()
    assert f"{sys.executable}: has no flwr" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("strategy", peer.STRATEGIES)
def test_ours_is_measured(strategy: str) -> None:
    found = peer.ours(CASE, 3, peer.STRATEGIES[strategy])
    assert len(found.seconds) == 2
    assert min(found.seconds) > 0
    assert found.memory.resident >= found.memory.own > 20


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="make bench-peer installs it")
def test_the_peer_is_measured() -> None:
    found = peer.theirs(CASE, 3, PYTHON)
    assert len(found.seconds) == 2
    assert min(found.seconds) > 0
    assert found.memory.resident >= found.memory.own > 20
