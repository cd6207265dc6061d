"""What lies beside a file of the user's: what of it is imported, when anew, and what its version covers."""

import importlib
import json
import random
import statistics
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from lotteryfl.common.errors import TaskError
from lotteryfl.common.names import Digest
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.owncode.usercode import import_source, version_of


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


def write(folder: Path, files: dict[str, str] | None = None, **modules: str) -> Path:
    """Write files by their paths, and modules by their names; return the folder."""
    for name, text in (files or {}).items() | {f"{name}.py": text for name, text in modules.items()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def load(folder: Path, what: str = "task own_work", name: str = "own_work") -> ModuleType:
    return import_source(what, str(folder / f"{name}.py"), TaskError)


LATE = "from own_data import ROWS\n\ndef late():\n    import own_late\n    return own_late.WORD\n"


def test_what_lies_beside_is_there_at_the_import_and_in_functions(tmp_path: Path) -> None:
    module = load(write(tmp_path, own_work=LATE, own_data="ROWS = 3", own_late="WORD = 'late'"))
    assert (module.ROWS, module.late()) == (3, "late")
    assert module.__name__ == "own_work", "by this name its classes are unpickled in processes of its own"


def test_every_file_has_what_lies_beside_itself_and_as_it_is_now(tmp_path: Path) -> None:
    """Equal names in two folders, and an edited helper: no module of the load before is taken for it."""
    one = write(tmp_path / "one", own_work=LATE, own_data="ROWS = 1", own_late="WORD = 'one'")
    two = write(tmp_path / "two", own_work=LATE, own_data="ROWS = 2", own_late="WORD = 'two'")
    for folder, rows, word in ((one, 1, "one"), (two, 2, "two"), (one, 1, "one")):
        module = load(folder)
        assert (module.ROWS, module.late()) == (rows, word)
    assert str(two) not in sys.path, "the other one has taken its place"
    write(one, own_data="ROWS = 17")
    assert load(one).ROWS == 17
    strategy = load(two, "--strategy two")
    assert (strategy.ROWS, load(one).ROWS) == (2, 17)


def test_what_lies_beside_draws_the_same_at_every_load(tmp_path: Path) -> None:
    """One process loads a task twice, another once: what its files draw at their import must not differ."""
    folder = write(
        tmp_path,
        own_work="import random, own_data\nDRAWN = own_data.DRAWN, random.random()",
        own_data="import random\nDRAWN = random.random()",
    )
    drawn = []
    for _ in range(2):
        random.seed(5)
        drawn.append(load(folder).DRAWN)
    assert drawn[0] == drawn[1]


def test_it_comes_before_all_but_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(write(tmp_path / "elsewhere", own_data="WHOSE = 'another'"))
    monkeypatch.delitem(sys.modules, "statistics")
    folder = write(
        tmp_path / "here",
        own_work="import statistics, own_data, numpy\nWHOSE = own_data.WHOSE",
        own_data="WHOSE = 'its own'",
        statistics="raise RuntimeError('beside, and not meant')",
        numpy="raise RuntimeError('beside, and not meant')",
    )
    module = load(folder)
    assert module.WHOSE == "its own"
    assert module.statistics.__file__ == statistics.__file__
    assert set(version_of(module).files) == {"own_work.py", "own_data.py"}


def test_a_name_that_a_file_from_elsewhere_has_here_is_refused(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", own_data="")
    sys.path.insert(0, str(elsewhere))
    importlib.import_module("own_data")
    folder = write(tmp_path / "here", own_work="def late():\n    import own_data", own_data="")
    with pytest.raises(TaskError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"task own_work: imports {folder}/own_data.py, and 'own_data' is {elsewhere}/own_data.py in this process: "
        "give it another name"
    )


@pytest.mark.parametrize(
    ("text", "what"), [("x = 1 / 0", "1: ZeroDivisionError: division by zero"), ("\ndef", "2: SyntaxError: ")]
)
def test_an_error_of_what_lies_beside_names_its_line(tmp_path: Path, text: str, what: str) -> None:
    folder = write(tmp_path, own_work="import own_data", own_data=text)
    with pytest.raises(TaskError, match=f"^task own_work: import failed at {folder}/own_data.py:{what}"):
        load(folder)


# ---- versions

FILES = {
    "own_work.py": "import os, importlib, own_data, own_tools.reading\n"
    "NAMED = importlib.import_module('own_' + 'named')\n"
    "def late():\n    from own_late import word\n    import no_such_module_anywhere",
    "own_data.py": "import own_deep",
    "own_deep.py": "",
    "own_late.py": "word = 1",
    "own_named.py": "",
    "own_tools/__init__.py": "from . import writing as w",
    "own_tools/reading.py": "from .deeper import thing",
    "own_tools/writing.py": "",
    "own_tools/deeper/__init__.py": "from ..base import thing",
    "own_tools/base.py": "thing = 1",
}
NOT_MEANT = dict.fromkeys(("own_unused.py", "own_tools/unused.py", "site/own_deep.py", "lotteryfl.py", "os.py"), "")


def covered(module: ModuleType) -> dict[str, str]:
    return dict(version_of(module).files)


def test_a_version_covers_all_that_is_imported_from_its_folder(tmp_path: Path) -> None:
    """At once and in functions, directly and by others, in packages, and by a name that only running it computes."""
    folder = write(tmp_path, FILES | NOT_MEANT)
    expected = {name: sha256(text.encode()).hexdigest() for name, text in FILES.items()}
    assert covered(load(folder)) == expected
    assert covered(load(folder)) == expected, "again, too"


def test_the_version_of_a_module_covers_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "__init__.py": "",
        "work.py": "from .data import ROWS",
        "data.py": "import own_deep\nROWS = 4",
        "no.py": "",
    }
    write(tmp_path, {f"own_package/{name}": text for name, text in files.items()}, own_deep="")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        module = import_source("task work", "own_package.work", TaskError)
        assert module.ROWS == 4
        assert set(covered(module)) == {"__init__.py", "work.py", "data.py", "../own_deep.py"}


def test_of_an_installed_module_its_own_package_alone_is_covered() -> None:
    module = import_source("task work", "yaml.tokens", TaskError)
    assert {"__init__.py", "tokens.py", "nodes.py"} <= set(covered(module))
    assert not [name for name in covered(module) if name.startswith("..")]


def test_a_difference_names_files() -> None:
    one, two, three, four = (Digest(str(each) * 64) for each in range(1, 5))
    ours = SourceVersion({"a.py": one, "b.py": two, "c.py": three})
    theirs = SourceVersion({"a.py": one, "b.py": four, "d.py": three})
    assert ours.difference(theirs) == "'b.py' differs, there is no 'c.py', there is a 'd.py' too"
    assert ours.difference(ours) == ours.difference(SourceVersion()) == SourceVersion().difference(ours) == ""
    assert SourceVersion.from_json(ours.to_json()) == ours
    assert SourceVersion.from_json("") == SourceVersion()
    assert SourceVersion().to_json() == ""


def test_more_files_than_travel_are_one_digest(tmp_path: Path) -> None:
    files = []
    for number in range(1200):
        files.append(tmp_path / f"m{number:04}.py")
        files[-1].touch()
    version = SourceVersion.of(files[0], files)
    assert len(version.files) == 1000
    assert SourceVersion.from_json(version.to_json()) == version
    files[-1].write_text("x = 1")
    assert version.difference(SourceVersion.of(files[0], files)) == "'others' differs"


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"a.py": "1"},
        {"a.py": 1},
        {"a" * 501: "1" * 64},
        {"a.py": "A" * 64},
        {"a.py": "1" * 64 + "\n"},
        {f"{number}.py": "1" * 64 for number in range(1001)},
    ],
    ids=range(7),
)
def test_what_is_no_version_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SourceVersion.from_json(json.dumps(value))
