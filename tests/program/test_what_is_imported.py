"""What takes long to import is imported when something needs it: by `sys.modules`, never by a clock."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from lotteryfl.program import COMMANDS
from tests.support.sshd import needs_sshd

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "sklearn", "numpy", "grpc", "matplotlib", "pandas", "cryptography"}

RUN = """
import sys
from lotteryfl.program import main
sys.argv = ["lotteryfl", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def heavy_modules(code: str, *arguments: object) -> set[str]:
    """Return which of `HEAVY` a process has imported that prints its modules to stderr."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return HEAVY & set(process.stderr.split())


def test_the_public_api_is_imported_without_anything_heavy() -> None:
    assert heavy_modules("import sys, lotteryfl; dir(lotteryfl); print(*sys.modules, file=sys.stderr)") == set()


@pytest.mark.parametrize("package", ["tasks", "models", "pruning", "training", "experiment"])
def test_fronts_import_nothing_heavy(package: str) -> None:
    code = f"import sys, lotteryfl.common.{package} as front; dir(front); print(*sys.modules, file=sys.stderr)"
    assert heavy_modules(code) == set()


def test_help_imports_no_command() -> None:
    code = f"{RUN}\n    print(*sorted(sys.modules), file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(process.stderr.split())
    assert HEAVY & modules == set()
    assert not any(name.startswith("lotteryfl.commands") for name in modules)
    assert all(f"  {name} " in process.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", [("status",), ("status", "--clients"), ("watch",)])
def test_a_directory_is_looked_at_by_its_record_alone(finished_run: Path, command: tuple[str, ...]) -> None:
    assert heavy_modules(RUN, *command, finished_run) == set()


@pytest.mark.slow
def test_an_extra_is_not_imported_before_it_is_wanted() -> None:
    code = "import sys, lotteryfl.commands.run, lotteryfl.commands.work; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("command", ["status", "watch"])
def test_to_look_at_a_coordinator_needs_grpc_and_no_torch(command: str) -> None:
    code = RUN.replace("try:\n    main()", "try:\n    main()\nexcept SystemExit as ended:\n    assert ended.code == 1")
    assert heavy_modules(code, command, "127.0.0.1:1") == {"grpc"}


def test_a_mistake_in_an_experiment_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("clientz = 3\n")
    code = RUN.replace("try:\n    main()", "try:\n    main()\nexcept SystemExit as ended:\n    assert ended.code == 1")
    assert heavy_modules(code, "run", wrong) == set()


@needs_sshd
def test_what_would_be_launched_is_said_without_anything_heavy(tmp_path: Path) -> None:
    """Where the task is a file: which are built in is known to what needs torch."""
    experiment = tmp_path / "mine.toml"
    experiment.write_text('task.name = "mine.py"\nlaunch.ssh.hosts = ["alpha"]\n')
    assert heavy_modules(RUN, "launch", "ssh", experiment, "--dry-run") == set()


def test_the_pages_process_does_without_torch() -> None:
    imported = "import sys, lotteryfl.commands.dashboard, lotteryfl.dashboard.listening"
    code = f"{imported}; print(*sys.modules, file=sys.stderr)"
    assert heavy_modules(code) == {"numpy"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_help_says_of_a_command_is_what_the_command_says_of_itself(name: str) -> None:
    command = getattr(import_module(f"lotteryfl.commands.{COMMANDS[name].module}"), name)
    first, _, _ = inspect.cleandoc(command.help).partition("\n")
    assert COMMANDS[name].help == first
