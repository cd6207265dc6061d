"""docs/strategy-hooks.md: its table of hooks is the class's, and its examples are the files that run."""

import ast
import inspect
import re

from lotteryfl.common.wire.clientresult import ClientResult, ResultMetrics
from lotteryfl.server.strategies import base
from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "strategy-hooks.md").read_text(encoding="utf-8")


def signatures() -> set[str]:
    """Return the hooks of the class as its source has them."""
    (strategy,) = (
        node for node in ast.parse(inspect.getsource(base)).body if getattr(node, "name", "") == Strategy.__name__
    )
    assert isinstance(strategy, ast.ClassDef)
    hooks = [node for node in strategy.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    for hook in hooks:
        hook.args.args = hook.args.args[1:]  # self
    return {
        f"{hook.name}({ast.unparse(hook.args)}) -> {ast.unparse(hook.returns or ast.Constant(None))}" for hook in hooks
    }


def test_every_hook_is_listed_with_its_signature_and_nothing_else_is() -> None:
    table = TEXT.split("| hook | what it says |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| `(.*?)` \|", table.replace("\\|", "|"), re.MULTILINE)
    assert len(listed) > 10
    assert sorted(listed) == sorted(signatures())


def test_every_class_attribute_is_named() -> None:
    annotations = inspect.get_annotations(Strategy)
    (named,) = re.findall(r"^Class attributes, .*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert {name for name in annotations if f"`{name}`" not in named and f"`self.{name}`" not in named} == set()


def test_all_that_a_strategy_is_told_is_named() -> None:
    told = {name for name in vars(ClientState) if not name.startswith("_")} | {"client"}
    for each in (ClientResult, ResultMetrics, RoundOutcome):
        told |= set(inspect.get_annotations(each))
    assert {name for name in told if f"`{name}`" not in TEXT} == set()


def test_its_examples_are_the_files_that_run_and_have_15_lines_of_code() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for name in ("q_fedavg", "prune_accurate"):
        source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
        assert source in blocks
        code = re.sub(r'""".*?"""', "", source, flags=re.DOTALL)
        assert len([line for line in code.splitlines() if line.strip()]) <= 15
