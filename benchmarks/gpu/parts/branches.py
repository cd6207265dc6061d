"""Every branch of the program that is taken on a device alone, and whether one process has taken it here."""

import ast
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from benchmarks.gpu.row import Row, check
from benchmarks.gpu.runs import Setting, experiment, simulated
from lotteryfl.common.errors import LotteryFLError

SECONDS = 20.0

_ROOT = Path(__file__).parents[3]
_FOLDERS = ("client", "common", "server", "lotteryfl/running")

RUNS: dict[str, dict[str, Any]] = {
    "lotteryfl": {"training": {"augment": ["crop"], "optimizer": "RMSprop", "lr": 0.001}},
    "feddst": {"strategy": {"name": "feddst", "readjust_every": 1}},
    "fedselect": {"strategy": {"name": "fedselect"}, "wire_dtype": "bfloat16"},
    "sub-fedavg": {"strategy": {"name": "sub-fedavg", "min_mask_change": 0.001}, "training": {"epochs": 2}},
    "clipping": {"strategy": {"name": "fedavg"}, "privacy": {"clip_norm": 1.0}},
    "DP-SGD": {"strategy": {"name": "fedavg"}, "privacy": {"dp_sgd": True, "noise_multiplier": 1.0}},
}
"""What is done to take them."""


@dataclass(frozen=True)
class Branch:
    """A piece of code that asks for the kind of a device."""

    file: str
    line: int
    asks: str
    device_line: int
    """The first line of what is done on a device."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.file}:{self.line}: `{self.asks}`"


def rows(setting: Setting) -> Iterator[Row]:
    """Run small experiments with an eye on those lines."""
    branches = list(found_in(_ROOT))
    yield check("branches found", bool(branches), str(len(branches)))
    seen: set[tuple[str, int]] = set()
    sys.settrace(_tracer({branch.file for branch in branches}, seen))
    try:
        not_run = list(_refused(setting))
    finally:
        sys.settrace(None)
    yield from not_run
    is_device = torch.device(setting.device).type != "cpu"
    for branch in branches:
        has_run = is_device and (branch.file, branch.device_line) in seen
        yield Row(branch.name, "run" if has_run else "not run")


def found_in(root: Path) -> Iterator[Branch]:
    """Yield the branches in the program's sources."""
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if '.type != "' in source or '.type == "' in source or ".type not in (" in source:
                yield from _branches(ast.parse(source), str(path.relative_to(root)))


def _branches(tree: ast.AST, file: str) -> Iterator[Branch]:
    for parent in ast.walk(tree):
        for body in (getattr(parent, name, None) for name in ("body", "orelse")):
            for index, statement in enumerate(body if isinstance(body, list) else ()):
                after = body[index + 1 : index + 2] if isinstance(body, list) else []
                if isinstance(statement, ast.If) and _asks(statement.test):
                    yield _of_if(statement, after, file)
        if not isinstance(parent, ast.If) and (test := _own_test(parent)) is not None:
            line = getattr(parent, "lineno", test.lineno)
            yield Branch(file, line, ast.unparse(test), line)


def _of_if(statement: ast.If, after: list[ast.stmt], file: str) -> Branch:
    asks = ast.unparse(statement.test)
    is_of_device = "!= 'cpu'" in asks or "== 'cuda'" in asks or "== 'mps'" in asks
    taken = statement.body if is_of_device else statement.orelse or after or statement.body
    return Branch(file, statement.lineno, asks, taken[0].lineno)


def _own_test(node: ast.AST) -> ast.expr | None:
    """Return the test of an expression or a comprehension that asks."""
    if isinstance(node, ast.IfExp) and _asks(node.test):
        return node.test
    if isinstance(node, ast.comprehension):
        return next(filter(_asks, node.ifs), None)
    return None


def _asks(test: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Compare)
        and isinstance(node.left, ast.Attribute)
        and node.left.attr == "type"
        and any(kind in ast.unparse(node) for kind in ("'cpu'", "'cuda'", "'mps'"))
        for node in ast.walk(test)
    )


def _tracer(files: set[str], seen: set[tuple[str, int]]) -> Any:
    """Return what Python calls for every function: it notes the lines of those that lie in these files."""
    known: defaultdict[CodeType, str] = defaultdict(str)

    def of_lines(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            seen.add((known[frame.f_code], frame.f_lineno))
        return of_lines

    def of_calls(frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        if code not in known:
            path = Path(code.co_filename).resolve()
            name = str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else ""
            known[code] = name if name in files else ""
        return of_lines if known[code] else None

    return of_calls


def _refused(setting: Setting) -> Iterator[Row]:
    """Do the runs; yield those that cannot be done here."""
    for name, changes in RUNS.items():
        if name == "DP-SGD" and importlib.util.find_spec("opacus") is None:
            yield Row(name, "not run: Opacus is not installed here")
            continue
        try:
            simulated(setting, experiment("cnn", 20, rounds=2, clients=2, clients_per_round=2, **changes))
        except LotteryFLError as error:
            yield check(name, False, str(error))
