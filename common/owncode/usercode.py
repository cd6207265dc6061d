"""Python code of the user's own, imported where its operator names it; its errors say where they arose."""

import contextlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple
from weakref import WeakKeyDictionary

from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError, TaskError
from lotteryfl.common.owncode.siblings import NOT_THE_USERS, OwnSource, search_first, search_no_more
from lotteryfl.common.owncode.sourceversion import SourceVersion


class _Loaded(NamedTuple):
    """A file that was imported by its path."""

    module: str
    """What it is called in `sys.modules`."""
    source: OwnSource
    before: Collection[str]
    """What had been imported before it: nothing of this came with it."""


_loaded: dict[str, _Loaded] = {}
"""By what they are for."""
_versions: WeakKeyDictionary[ModuleType, SourceVersion] = WeakKeyDictionary()


def absolute(source: str) -> str:
    """Return a file's absolute path; a module's name as it is."""
    return str(Path(source).expanduser().resolve()) if source.endswith(".py") else source


def import_source(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    """Import a .py file by its absolute path, or a module by its name.

    What lies beside the file can be imported while it is and ever after, before all but Python's own modules. A later
    file that is for the same takes its place.

    Args:
        what: what it is for, as "task mine": the error begins with it.
        source: the file or module.
        error: what is raised.

    Raises:
        LotteryFLError: of the given type: there is no such file or module, its code fails, or it imports a file beside
            it whose name another module has.
    """
    return (_import_file if source.endswith(".py") else _import_module)(what, source, error)


def version_of(module: ModuleType) -> SourceVersion:
    """Return the version of what `import_source` has imported.

    It covers the file, what the import statements in it name of its folder (in functions too; of a module, what they
    name of its package and beside that), what theirs name, and whatever else of the folder was imported with it.
    Our own modules have none but the program's.
    """
    return _versions.get(module, SourceVersion())


@contextlib.contextmanager
def located(failure: str, file: str | None, error: type[LotteryFLError]) -> Iterator[None]:
    """Turn any exception of the user's code into one that says at which line it arose.

    Args:
        failure: what the message begins with.
        file: the user's; None: no line is said.
        error: what is raised.
    """
    try:
        yield
    except (Exception, SystemExit) as cause:  # whoever calls sys.exit() in a function of a task ends no process of ours
        if isinstance(cause, error) and file is not None and file.startswith(NOT_THE_USERS):
            raise  # one of our own tasks without code has said what is wrong with the data
        place = f" {_place_in(file, cause)}" if file else ""
        raise error(f"{failure}{place}: {type(cause).__name__}: {first_line(cause)}") from cause


def _place_in(file: str, error: BaseException) -> str:
    """Return "at FILE:LINE", the user's line that an error came through last, or "in FILE", the one that is named."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    lines = [f"{name}:{line}" for name, line in places if name == file or _is_users(name)]
    return f"at {lines[-1]}" if lines else f"in {file}"


def first_line(error: BaseException) -> str:
    """Return what an error says, without what torch and others add to it."""
    return str(error).strip().partition("\n")[0]


def place_of(trace: TracebackType | None) -> str:
    """Return FILE:LINE, without its folder, of the user's line that an error came through last; else of its own."""
    frames = traceback.extract_tb(trace)
    users = [frame for frame in frames if _is_users(frame.filename)]
    last = (users or frames)[-1:]
    return "".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last)


def users_place(trace: TracebackType | None) -> str:
    """Return FILE:LINE of the user's line that an error came through last; '': it came through none."""
    users = [frame for frame in traceback.extract_tb(trace) if _is_users(frame.filename)]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else ""


def _is_users(file: str) -> bool:
    return Path(file).is_absolute() and not file.startswith(NOT_THE_USERS)


@contextlib.contextmanager
def belonging_to(clients: int | Sequence[int], task: str) -> Iterator[None]:
    """Let what the block raises be a client's.

    Args:
        clients: whose data, model and training the block works with; of several it is one's, and it is not known whose.
        task: its name.

    Raises:
        ClientError: in the place of any exception but one of a payload, and of what ends the process or the work.
    """
    try:
        yield
    except PayloadError:
        raise
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, TaskError) and error.__cause__ else error
        what = f"{_named(clients)} of task {task}: {type(cause).__name__} at {place_of(cause.__traceback__)}"
        message = str(error) if isinstance(error, TaskError) else f"{what}: {first_line(cause)}"
        raise ClientError(message, what) from error


def _named(clients: int | Sequence[int]) -> str:
    several = [clients] if isinstance(clients, int) else clients
    numbers = ", ".join(map(str, several))
    return f"client {numbers}" if len(several) == 1 else f"one of the stacked clients {numbers}"


def _import_file(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    if not Path(source).is_file():
        raise error(f"{what}: there is no file {source}")
    own = OwnSource.of_file(Path(source))
    _forget(what)
    _require_free_names(what, own, error)
    name = own.name if _is_free(own.name) else re.sub(r"\W", "_", f"lotteryfl_{what}")
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise error(f"{what}: {source} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    before = frozenset(sys.modules)
    _loaded[what] = _Loaded(name, own, before)
    search_first(own.root)
    sys.modules[name] = module  # dataclasses, pickle and what lies beside it look it up there
    with located(f"{what}: import failed", source, error):
        spec.loader.exec_module(module)
    _versions[module] = _version(what, own, before, error)
    return module


def _import_module(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    with located(f"{what}: import failed", None, error):
        spec = importlib.util.find_spec(source)
    if spec is None or not spec.has_location:
        raise error(f"{what}: there is no module {source}")
    before = frozenset(sys.modules)
    with located(f"{what}: import failed", spec.origin, error):
        module = importlib.import_module(source)
    if module not in _versions and spec.origin:  # else it is as it was when it was imported
        _versions[module] = _version(what, OwnSource.of_module(source, Path(spec.origin)), before, error)
    return module


def _version(what: str, own: OwnSource, before: Collection[str], error: type[LotteryFLError]) -> SourceVersion:
    files = set(own.reached().values())
    files |= {Path(str(module.__file__)) for module in _came_with(own, before).values()}
    try:
        return SourceVersion.of(own.file, files)
    except OSError as cause:
        raise error(f"{what}: {cause.filename} cannot be read: {cause.strerror}") from cause


def _came_with(own: OwnSource, before: Collection[str]) -> dict[str, ModuleType]:
    """Return by name what has been imported from beside a module since then."""
    modules = list(sys.modules.items())
    return {name: module for name, module in modules if name not in before and own.is_from_here(name, module)}


def _forget(what: str) -> None:
    """Make room for a file: that for the same goes, and what all files before it have imported from beside them.

    So every file imports anew what lies beside it, also where it is the same as before: it is another one's that is
    called alike, or it has been edited, or it draws random numbers, which must be those that every process draws.
    """
    for each in _loaded.values():
        for name in _came_with(each.source, each.before):
            if name not in {loaded.module for loaded in _loaded.values()}:
                del sys.modules[name]
    if old := _loaded.pop(what, None):
        sys.modules.pop(old.module, None)
        if old.source.root not in {each.source.root for each in _loaded.values()}:
            search_no_more(old.source.root)


def _require_free_names(what: str, own: OwnSource, error: type[LotteryFLError]) -> None:
    """Refuse a file that imports what lies beside it by a name that a file of the user's from elsewhere has here."""
    for name, file in own.reached().items():
        module = sys.modules.get(name)
        if "." in name or name == own.name or module is None or own.is_from_here(name, module):
            continue
        if place := getattr(module, "__file__", None):
            raise error(f"{what}: imports {file}, and {name!r} is {place} in this process: give it another name")


def _is_free(name: str) -> bool:
    return name.isidentifier() and name not in sys.modules and name not in sys.stdlib_module_names
