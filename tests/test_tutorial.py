import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every python block runs, in order; a text block is what the python block before it prints."""
    monkeypatch.chdir(tmp_path)
    text = TUTORIAL.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "tutorial"}
    printed = shown = ""
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) > 15
    for block in blocks:
        language, content = block.groups()
        line = text.count("\n", 0, block.start()) + 2
        if language == "python":
            assert printed == shown, f"line {line}: the block before prints what the tutorial does not show"
            output = io.StringIO()
            code = compile("\n" * (line - 1) + content, str(TUTORIAL), "exec")
            with contextlib.redirect_stdout(output):
                exec(code, namespace)  # noqa: S102 - our own documentation
            printed, shown = output.getvalue(), ""
        else:
            assert (language, content) == ("text", printed), f"line {line}"
            shown = content
    assert printed == shown
