"""Nothing that arrives or lies on the disk becomes code: where code is made or looked up by name, by module."""

import ast
from collections.abc import Iterator

from tests.support.paths import ROOT

MAKES_CODE = {
    *("eval", "exec", "compile", "__import__", "import_module", "exec_module", "spec_from_file_location"),
    *("pickle", "marshal", "shelve", "dill", "joblib", "run_path", "run_module", "Popen", "load_library"),
}

ALLOWED = {
    "client/local/files.py": {"import_module"},  # of the modules that lie in client/algorithms
    "common/lazy.py": {"import_module"},  # of constant tables
    "lotteryfl/launching/kinds.py": {"import_module"},  # of a constant table
    "lotteryfl/launching/ray/child.py": {"Popen"},  # of this program
    "lotteryfl/launching/ray/here.py": {"Popen"},  # likewise
    "lotteryfl/program.py": {"import_module"},  # of a constant table
    "lotteryfl/launching/ssh/launcher.py": {"Popen"},  # of this program
    "lotteryfl/launching/slurm/here.py": {"Popen"},  # of this program
    "lotteryfl/running/tracking.py": {"Popen"},  # of this program
    "common/tasks/folders/tables.py": {"np.load"},  # without pickles
    "common/tasks/registry.py": {"import_module"},  # of a constant table
    "common/training/precision.py": {"compile"},  # torch's, of the task's model, where the experiment says so
    "common/owncode/usercode.py": {
        "exec_module",
        "import_module",
        "spec_from_file_location",
    },  # what the operator named
}


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("re", "compile")
        ):
            yield node.attr
            if isinstance(node.value, ast.Name) and (node.value.id, node.attr) in (("torch", "load"), ("np", "load")):
                yield f"{node.value.id}.load"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name.partition(".")[0] for alias in node.names)
            yield (getattr(node, "module", None) or "").partition(".")[0]


def test_code_is_made_only_of_what_the_operator_named() -> None:
    found = {}
    for folder in ("client", "common", "server", "lotteryfl"):
        for path in (ROOT / folder).rglob("*.py"):
            used = set(names(ast.parse(path.read_text(encoding="utf-8")))) & {*MAKES_CODE, "torch.load", "np.load"}
            if used:
                found[str(path.relative_to(ROOT))] = used
    assert found == ALLOWED
