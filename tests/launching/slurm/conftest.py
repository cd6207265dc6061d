"""Launches by Slurm that are rendered, and not submitted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import launch_settings
from lotteryfl.launching.slurm.launcher import SlurmLauncher
from lotteryfl.running.owncode import OwnCode

Rendered = Callable[..., dict[str, str]]


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """Render a launch: `rendered("slurm.nodes=2", …, own=…)`; its folder's name has a blank."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no profiles"))
    source = tmp_path / "e.toml"
    source.touch()

    def rendered_(*given: str, own: OwnCode | None = None) -> dict[str, str]:
        run_dir = tmp_path / "my run"
        settings = launch_settings(source, "", given)
        request = Request(source, run_dir, (), own or OwnCode(), settings, LaunchFolder(run_dir))
        return SlurmLauncher(request, print).rendered()

    return rendered_
