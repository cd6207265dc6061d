"""Python code of the user's own, imported where its operator names it; its errors say where they arose."""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType

from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError, TaskError

_NOT_THE_USERS = tuple(
    f"{Path(folder)}{os.sep}"
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),  # lotteryfl/common/usercode.py: the program itself
    }
)
"""Folders of the code that users do not write."""


def absolute(source: str) -> str:
    """Return a file's absolute path; a module's name as it is."""
    return str(Path(source).expanduser().resolve()) if source.endswith(".py") else source


def import_source(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    """Import a .py file by its absolute path, or a module by its name.

    Args:
        what: what it is for, as "task mine": the error begins with it.
        source: the file or module.
        error: what is raised.

    Raises:
        LotteryFLError: of the given type: there is no such file or module, or its code fails.
    """
    return (_import_file if source.endswith(".py") else _import_module)(what, source, error)


@contextlib.contextmanager
def located(failure: str, file: str | None, error: type[LotteryFLError]) -> Iterator[None]:
    """Turn any exception of the user's code into one that says at which line of `file` it arose."""
    try:
        yield
    except (Exception, SystemExit) as cause:  # whoever calls sys.exit() in a function of a task ends no process of ours
        if isinstance(cause, error) and file is not None and file.startswith(_NOT_THE_USERS):
            raise  # one of our own tasks without code has said what is wrong with the data
        lines = [frame.lineno for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        if isinstance(cause, SyntaxError) and cause.filename == file:
            lines.append(cause.lineno)
        place = f" at {file}:{lines[-1]}" if lines else f" in {file}" if file else ""
        raise error(f"{failure}{place}: {type(cause).__name__}: {first_line(cause)}") from cause


def first_line(error: BaseException) -> str:
    """Return what an error says, without what torch and others add to it."""
    return str(error).strip().partition("\n")[0]


def place_of(trace: TracebackType | None) -> str:
    """Return FILE:LINE, without its folder, of the user's line that an error came through last; else of its own."""
    frames = traceback.extract_tb(trace)
    users = [frame for frame in frames if _is_users(frame.filename)]
    last = (users or frames)[-1:]
    return "".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last)


def _is_users(file: str) -> bool:
    return Path(file).is_absolute() and not file.startswith(_NOT_THE_USERS)


@contextlib.contextmanager
def belonging_to(client: int, task: str) -> Iterator[None]:
    """Let what the block raises be a client's.

    Args:
        client: whose data, model and training the block works with.
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
        what = f"client {client} of task {task}: {type(cause).__name__} at {place_of(cause.__traceback__)}"
        message = str(error) if isinstance(error, TaskError) else f"{what}: {first_line(cause)}"
        raise ClientError(message, what) from error


def _import_file(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    if not Path(source).is_file():
        raise error(f"{what}: there is no file {source}")
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", f"lotteryfl_{what}"), source)
    if spec is None or spec.loader is None:
        raise error(f"{what}: {source} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up there
    with located(f"{what}: import failed", source, error):
        spec.loader.exec_module(module)
    return module


def _import_module(what: str, source: str, error: type[LotteryFLError]) -> ModuleType:
    with located(f"{what}: import failed", None, error):
        spec = importlib.util.find_spec(source)
    if spec is None or not spec.has_location:
        raise error(f"{what}: there is no module {source}")
    with located(f"{what}: import failed", spec.origin, error):
        return importlib.import_module(source)
