"""Lines of sh for other machines: a value is one word there, whatever is in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.shell import called, prepared

SHOWS = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('VALUE')]))"


def shown(launch: LaunchSettings, arguments: list[str], home: Path) -> list[object]:
    """Return what a program that is called in a shell there sees: its arguments, and the variable VALUE."""
    script = "\n".join([*prepared(launch), called(launch, arguments)])
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={"HOME": str(home)})
    found: list[object] = json.loads(done.stdout)
    return found


@settings(max_examples=8, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
@pytest.mark.parametrize("hostile", ["$(touch pwned); `id` '\" \\ ~ * && -o"])
def test_a_value_is_one_word(hostile: str, text: str) -> None:
    launch = LaunchSettings(program=f'{sys.executable} -c "{SHOWS}"', environment={"VALUE": text + hostile})
    arguments = [hostile, text, f"--data-dir={hostile}{text}"]
    assert shown(launch, arguments, Path("/")) == [arguments, text + hostile]


def test_the_program_may_be_at_home_there(tmp_path: Path) -> None:
    program = tmp_path / "my venv/bin/shows $(id)"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{SHOWS}" "$@"\n')
    program.chmod(0o755)
    launch = LaunchSettings(program="'~/my venv/bin/shows $(id)' one", setup=("VALUE=set; export VALUE",))
    assert shown(launch, ["two"], tmp_path) == [["one", "two"], "set"]
