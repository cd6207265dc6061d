"""docs/strategy-hooks.md has the hooks of the class, and the example of docs/strategies.md runs."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import lotteryfl
from lotteryfl.client.local import algorithm
from lotteryfl.client.local.algorithm import HOOKS, LocalAlgorithm
from lotteryfl.client.local.work import LocalWork
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "strategy-hooks.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
SMALL = ["rounds=1", "clients=3", "clients_per_round=2", "strategy.name=head-first"]


def signatures() -> set[str]:
    """Return the hooks of the class as its source has them."""
    tree = ast.parse(inspect.getsource(algorithm))
    (found,) = (node for node in tree.body if getattr(node, "name", "") == LocalAlgorithm.__name__)
    assert isinstance(found, ast.ClassDef)
    hooks = [node for node in found.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    for hook in hooks:
        hook.args.args = hook.args.args[1:]  # self
    return {f"{hook.name}({ast.unparse(hook.args)}) -> {ast.unparse(hook.returns or hook)}" for hook in hooks}


def test_every_hook_is_listed_with_its_signature_and_nothing_else_is() -> None:
    table = TEXT.split("| hook of a `LocalAlgorithm` | when, and what it says |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)) == signatures()
    assert {name.partition("(")[0] for name in signatures()} == HOOKS.keys()
    for name, count in HOOKS.items():
        assert len(inspect.signature(getattr(LocalAlgorithm, name)).parameters) == 1 + count


def test_what_the_work_gives_is_listed() -> None:
    table = TEXT.split("| of `self.work` | |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)[`(]", "".join(line.split(" | ")[0] for line in table.splitlines())))
    public = {name for name in dir(LocalWork) if not name.startswith("_")}
    assert public <= named
    attributes = re.findall(r"^        self\.([a-z]\w*)\b.* = ", inspect.getsource(LocalWork.__init__), re.MULTILINE)
    assert named - public == set(attributes)


@pytest.mark.usefixtures("own_strategies")
def test_the_example_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(# head_first.*?)^```$", EXAMPLE, re.MULTILINE | re.DOTALL)
    (tmp_path / "head_first.py").write_text(block)
    experiment = lotteryfl.load_experiment(ROOT / "examples" / "digits.toml", SMALL)
    with lotteryfl.simulate(
        experiment, tmp_path / "run", device="cpu", strategies=[str(tmp_path / "head_first.py")]
    ) as view:
        assert view.status().state == view.status().FINISHED
