"""A model that is named with where it comes from: `timm:resnet18?norm_layer=groupnorm`, `module:function`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.text import quoted

LIBRARIES = ("timm", "torchvision", "transformers", "peft")
"""Each an extra of its name."""

_NAME = re.compile(r"[\w.-]+", re.ASCII)
_OPTION = re.compile(r"[A-Za-z]\w*", re.ASCII)

# An experiment may come from a coordinator, and chooses a model: never a file, a download or code that comes with one.
_NEVER = re.compile("pretrained|checkpoint|weights|remote_code|auto_map|implementation|quantization|cache_dir")

_PLACE = re.compile(r"[/\\:]")


@dataclass(frozen=True)
class ModelName:
    """What `task.model` says, where it says more than an architecture.

    Raises:
        ValueError: it names no model, or an option that no experiment may give.
    """

    source: str
    """One of `LIBRARIES`; or a module, or a .py file, of the user's own."""
    name: str
    """A model's in timm or torchvision, a type's in transformers or the folder of its config, a type's that peft
    adapts; or a function's."""
    options: Mapping[str, Any]
    """What the model is built with beside what is known of the data."""

    def __post_init__(self) -> None:
        if not self.source or not (self.is_folder or _NAME.fullmatch(self.name)):
            raise ValueError(
                f"task.model = {quoted(str(self))}: expected one of {', '.join(f'{each}:NAME' for each in LIBRARIES)}, "
                "transformers:FOLDER or MODULE:FUNCTION, and ?OPTION=VALUE&… behind it"
            )
        for option, value in self.options.items():
            self._check_option(option, value)

    @property
    def is_own(self) -> bool:
        """Whether it is code of the user's own."""
        return self.source not in LIBRARIES

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with a `config.json`."""
        return self.source == "transformers" and bool(re.search(r"[/\\]|^\.+$|^~", self.name))

    @property
    def short(self) -> str:
        """It without the places of files on this machine."""
        if self.is_own:
            return str(replace(self, source=task_id(self.source)))
        return f"{self.source}:{PurePath(self.name).name}" if self.is_folder else str(self)

    def travelling(self) -> str:
        """Return it as it goes to other machines: a folder's config as options, a file as a task's is named.

        Raises:
            ValueError: as `with_config`.
        """
        return self.short if self.is_own else str(self.with_config())

    def with_config(self) -> "ModelName":
        """Return it with what a folder's `config.json` says, if it is one.

        Raises:
            ValueError: there is no such file, or it names no type of models.
        """
        if not self.is_folder:
            return self
        path = Path(self.name).expanduser() / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            kind = config.pop("model_type")
            shown = {key: value for key, value in config.items() if _OPTION.fullmatch(key) and value is not None}
            return ModelName(self.source, kind, {**shown, **self.options})
        except OSError as error:
            raise ValueError(f"task.model = {quoted(str(self))}: {path}: {error.strerror}") from error
        except (KeyError, AttributeError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"task.model = {quoted(str(self))}: {path} is no config with a model_type") from error

    def beside(self, folder: Path) -> "ModelName":
        """Return it with its file or folder, if it names one, found relative to another folder."""
        if self.is_own and self.source.endswith(".py"):
            return replace(self, source=str((folder / Path(self.source).expanduser()).resolve()))
        if self.is_folder:
            return replace(self, name=str((folder / Path(self.name).expanduser()).resolve()))
        return self

    def __str__(self) -> str:
        options = {option: _written(value) for option, value in self.options.items()}
        query = urlencode(options, quote_via=quote, safe="/:,[]{}")
        return f"{self.source}:{self.name}{'?' if query else ''}{query}"

    def _check_option(self, option: str, value: object) -> None:
        what = f"task.model = {quoted(f'{self.source}:{self.name}')}: option {quoted(option)}"
        if not _OPTION.fullmatch(option):
            raise ValueError(f"{what}: expected a parameter's name")
        if self.is_own:
            return
        if value and _NEVER.search(option):
            raise ValueError(
                f"{what}: expected none that reads weights or code: those of a pretrained model are task.initial"
            )
        if isinstance(value, str) and _PLACE.search(value):
            raise ValueError(f"{what} = {quoted(value)}: expected no place of a file")


def model_name(text: str) -> ModelName | None:
    """Read `task.model`; None: it is an architecture of a built-in task.

    Raises:
        ValueError: as `ModelName`; or an option is given twice, or without a value.
    """
    head, _, query = text.partition("?")
    if ":" not in head:
        return None
    source, _, name = head.partition(":")
    if source not in LIBRARIES:
        source, _, name = head.rpartition(":")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise ValueError(f"task.model = {quoted(text)}: {error}") from error
    options = {option: _value(value) for option, value in pairs}
    if len(options) < len(pairs):
        raise ValueError(f"task.model = {quoted(text)}: an option is given twice")
    return ModelName(source, name, options)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _written(value: object) -> str:
    """Return what `_value` reads as this value."""
    return value if isinstance(value, str) and _value(value) == value else json.dumps(value)
