"""Python code of the user's own, imported where its operator names it; its errors say where they arose."""

import contextlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from lotteryfl.common.errors import LotteryFLError


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
    except Exception as cause:
        lines = [frame.lineno for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        if isinstance(cause, SyntaxError) and cause.filename == file:
            lines.append(cause.lineno)
        place = f" at {file}:{lines[-1]}" if lines else f" in {file}" if file else ""
        sentence = str(cause).partition("\n")[0]
        raise error(f"{failure}{place}: {type(cause).__name__}: {sentence}") from cause


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
