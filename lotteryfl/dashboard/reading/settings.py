"""The experiment as resolved, for who looks: key by key, beside its defaults."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

import tomli_w

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.security.secretnames import without_values_of_secrets
from lotteryfl.server.store.record import RunRecord


def experiment_of(run: RunRecord) -> dict[str, Any]:
    """Return a run's experiment; of paths, which are this machine's, their last part alone.

    Options of the user's own that are called as secrets are have no value.
    """
    given = _without_places(run.experiment.model_dump(mode="json", exclude={"access"}))
    for section in ("task", "strategy"):
        given[section]["options"] = without_values_of_secrets(given[section]["options"])
    defaults = Experiment().model_dump(mode="json", exclude={"access"})
    return {
        "toml": tomli_w.dumps(_without_none(given)),
        "sections": list(_sections(given, defaults)),
        "run_id": run.run_id,
        "version": version("lotteryfl"),
        "directory": run.path.resolve().name,
    }


def _sections(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    top = {key: value for key, value in given.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in given.items() if isinstance(value, dict)}
    for name, table in (("", top), *tables.items()):
        usual = defaults if not name else defaults.get(name) or {}
        yield {
            "name": name,
            "keys": [
                {"key": key, "value": value, "default": usual.get(key), "changed": value != usual.get(key)}
                for key, value in table.items()
            ],
        }


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return value
