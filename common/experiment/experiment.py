"""The experiment file: its schema and defaults, and errors that name the key, its value and what is allowed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field, ValidationInfo, model_validator

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.clientranges import parse_clients
from lotteryfl.common.experiment.indexfile import index_bytes
from lotteryfl.common.experiment.settings import (
    AccessSettings,
    AggregationSettings,
    CheckSettings,
    EngineSettings,
    EvaluationSettings,
    MaskCoding,
    PartitionSettings,
    PrivacySettings,
    RoundSettings,
    ServerSettings,
    StrategySettings,
    TaskSettings,
    WireDtype,
)
from lotteryfl.common.experiment.tables import TOMLTable, apply_override, explained, read_table
from lotteryfl.common.hubplace import PREFIX as HUB
from lotteryfl.common.models.named import ModelName, model_name
from lotteryfl.common.section import Count, Section
from lotteryfl.common.training.recipe import STACKABLE, TrainingSettings

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "strategy": {"scope": "layer", "gate": "test", "rewind": "everything", "overshoot": True},
        "aggregation": {"weighting": "equal"},
    }
}
"""What `strategy.preset` sets, section by section, wherever the experiment does not give the key itself."""

LAUNCH = "launch"
"""The section of an experiment file that says where its run is launched: see `lotteryfl.launching.settings`."""

_MAX_JSON = 2**20
"""Characters of an experiment as the coordinator sends it."""

RESOLVED = "resolved"
"""Context of a validation: the preset has been applied, and what is absent is at its default."""


class Experiment(Section):
    """One run, whole: the same file and seed give the same bits."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Everything random derives from it."""
    rounds: Count = 30
    """That train; after them every client is measured once more."""
    clients: int = Field(20, ge=1, le=1_000_000)
    """Data owners, 0 to clients - 1."""
    clients_per_round: Count = 20
    """Drawn without replacement for every round."""
    wire_dtype: WireDtype = "float32"
    """In what the prunable weights travel, both ways, and are kept in clients' results; see `common.wire.format`.
    What is measured of them, in rounds that do not train, travels in float32."""
    mask_coding: MaskCoding = "packed"
    """As what the masks of results travel, and are kept in them; bits of the run do not depend on it."""
    task: TaskSettings = TaskSettings()
    partition: PartitionSettings = PartitionSettings()
    training: TrainingSettings = TrainingSettings()
    engine: EngineSettings = EngineSettings()
    strategy: StrategySettings = StrategySettings()
    aggregation: AggregationSettings = AggregationSettings()
    server: ServerSettings = ServerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checks: CheckSettings = CheckSettings()
    privacy: PrivacySettings = PrivacySettings()
    round: RoundSettings = RoundSettings()
    access: AccessSettings = AccessSettings()

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, table: Any, info: ValidationInfo) -> Any:
        if info.context == RESOLVED:
            return table
        if not isinstance(table, dict) or not isinstance(strategy := table.get("strategy", {}), dict):
            return table  # what is wrong with it is said elsewhere
        preset = PRESETS.get(str(strategy.get("preset", "")), {})
        given = {name: table.get(name, {}) for name in preset}
        return {**table, **{name: {**preset[name], **keys} for name, keys in given.items() if isinstance(keys, dict)}}

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if self.clients_per_round > self.clients:
            raise ValueError(f"clients_per_round = {self.clients_per_round}: must be at most clients = {self.clients}")
        if self.clients_per_round > self.participants:
            raise ValueError(
                f"evaluation.new_clients = {self.evaluation.new_clients}: must leave at least clients_per_round = "
                f"{self.clients_per_round} of clients = {self.clients}"
            )
        if self.round.min_results > self.clients_per_round:
            raise ValueError(
                f"round.min_results = {self.round.min_results}: "
                f"must be at most clients_per_round = {self.clients_per_round}"
            )
        if self.round.deadline < self.round.lease:
            raise ValueError(
                f"round.deadline = {self.round.deadline:g}: must be at least round.lease = {self.round.lease:g}: "
                "a worker that died is noticed no earlier"
            )
        if self.partition.kind == "file" and not self.partition.file:
            raise ValueError("partition.file = '': expected an index file with partition.kind = 'file'")
        for name, clients in self.access.workers.items():
            if max(parse_clients(clients)) >= self.clients:
                raise ValueError(
                    f"access.workers.{name} = {clients!r}: the experiment's clients are 0 to {self.clients - 1}"
                )
        return self

    @model_validator(mode="after")
    def _trainable(self) -> "Experiment":
        training = self.training
        training.check_rounds(self.rounds)
        if self.privacy.dp_sgd:
            # An example's gradient is found of one batch a step, by hooks that take the model as it is.
            for key in ("accumulate", "precision", "compile", "channels_last"):
                if (value := getattr(training, key)) != (default := type(training).model_fields[key].default):
                    raise ValueError(f"training.{key} = {value!r}: must be {default!r} with privacy.dp_sgd")
        return self

    @model_validator(mode="after")
    def _stackable(self) -> "Experiment":
        if not self.engine.stacked:
            return self
        if self.privacy.dp_sgd:
            raise ValueError("privacy.dp_sgd = True: must be False with engine.stacked")
        for key in ("compile", "channels_last"):
            if getattr(self.training, key):
                raise ValueError(f"training.{key} = True: must be False with engine.stacked")
        if self.training.optimizer not in STACKABLE:
            raise ValueError(
                f"training.optimizer = {self.training.optimizer!r}: must be one of {', '.join(STACKABLE)} with "
                "engine.stacked"
            )
        return self

    @model_validator(mode="after")
    def _private(self) -> "Experiment":
        privacy = self.privacy
        if privacy.noise != "none" and not privacy.clip_norm:
            raise ValueError(
                f"privacy.clip_norm = 0: must be more than 0 with privacy.noise = {privacy.noise!r}: "
                "noise covers updates of a known size"
            )
        if privacy.noise != "none" and privacy.dp_sgd:
            raise ValueError(
                f"privacy.noise = {privacy.noise!r}: must be 'none' with privacy.dp_sgd: one ε is told, and it is "
                "either of clients or of examples"
            )
        if privacy.noise == "server":
            for key, expected in (("rule", "mean"), ("weighting", "equal")):
                if (value := getattr(self.aggregation, key)) != expected:
                    raise ValueError(
                        f"aggregation.{key} = {value!r}: must be {expected!r} with privacy.noise = 'server': "
                        "otherwise one client can move the model by more than the noise covers"
                    )
        return self

    @property
    def participants(self) -> int:
        """How many clients take part in rounds that train: the first ones; the others are new in the last round."""
        return self.clients - self.evaluation.new_clients

    def measures_globally(self, round_: int) -> bool:
        """Tell whether a round measures the personalised model on the task's global test data too."""
        return self.evaluation.global_examples > 0 and round_ > self.rounds

    def measures_shared(self, round_: int) -> bool:
        """Tell whether the shared model that a round begins with is measured on the task's global test data."""
        every = self.evaluation.global_every
        return every > 0 and (round_ > self.rounds or (round_ - 1) % every == 0)


def load(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment file, apply `section.key=value` overrides, and validate the whole.

    What it says of where the run is launched is no part of the experiment, and passed over.

    Files that it names, of a task, a model, who holds what, or θ_0, are found relative to the experiment file.

    Raises:
        ExperimentError: the file cannot be read or parsed, or a key or value is wrong.
    """
    table = read_table(path)
    table.pop(LAUNCH, None)
    for override in overrides:
        apply_override(table, override)
    return _with_index_file(_with_places(validate(table, source=str(path)), path.parent), path.parent)


def changed(experiment: Experiment, overrides: Iterable[str], said_by: str = "--set") -> Experiment:
    """Return a resolved experiment with `section.key=value` overrides, validated anew; a preset has had its say.

    Args:
        experiment: the experiment.
        overrides: what is different.
        said_by: the option that says it: errors begin with it.

    Raises:
        ExperimentError: a key or value is wrong.
    """
    table = experiment.model_dump()
    for override in overrides:
        apply_override(table, override)
    with explained(Experiment, said_by):
        return Experiment.model_validate(table, context=RESOLVED)


def load_resolved(path: Path) -> Experiment:
    """Read what `to_toml` made of an experiment, in this version or an earlier one.

    A key that it does not have is newer than the run, and at its default: a preset says nothing about it any more.

    Raises:
        ExperimentError: the file cannot be read or parsed, or a key or value is wrong.
    """
    table = read_table(path)
    with explained(Experiment, str(path), resolved=True):
        return _with_places(Experiment.model_validate(table, context=RESOLVED), path.parent)


def validate(table: TOMLTable, source: str) -> Experiment:
    """Check a parsed table; `source` says in the error where it came from.

    Raises:
        ExperimentError: naming every wrong key, its value and what is allowed.
    """
    with explained(Experiment, source):
        return Experiment.model_validate(table)


def from_json(text: str) -> Experiment:
    """Read an experiment as the coordinator sends it, which may be of another version: see `to_json`.

    Raises:
        ExperimentError: it is not one that this version understands.
    """
    if len(text) > _MAX_JSON:
        raise ExperimentError(f"the coordinator's experiment: {len(text)} characters, expected at most {_MAX_JSON}")
    with explained(Experiment, "the coordinator's experiment", resolved=True):
        return Experiment.model_validate_json(text, context=RESOLVED)


def to_json(experiment: Experiment) -> str:
    """Return a resolved experiment as workers get it: what is at its default is absent, so that only its use is new."""
    return experiment.model_dump_json(exclude={"access": True, "strategy": {"preset"}}, exclude_defaults=True)


def to_record(experiment: Experiment) -> str:
    """Return a resolved experiment as JSON for the run's own record: all but who may work, and where data lies here."""
    return experiment.model_dump_json(exclude={"access": True, "task": {"data_dir"}})


def from_record(text: str, source: str) -> Experiment:
    """Read what `to_record` wrote, in this version or an earlier one; what is absent is at its default.

    Raises:
        ExperimentError: it is none, or a newer version's.
    """
    with explained(Experiment, source, resolved=True):
        return Experiment.model_validate_json(text, context=RESOLVED)


def to_toml(experiment: Experiment) -> str:
    """Return the resolved experiment as TOML that `load_resolved` reads back to an equal value."""
    return tomli_w.dumps(experiment.model_dump(exclude_none=True))


def _with_places(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment with what its `task` names on this machine found relative to its file's folder."""
    task, places = experiment.task, {}
    if task.name.endswith(".py") and not Path(task.name).is_absolute():
        places["name"] = str((folder / task.name).resolve())
    if model := model_name(task.model):
        places["model"] = str(_with_config(model.beside(folder)))
    if task.initial and not task.initial.startswith(HUB):
        place, hash_, rest = task.initial.partition("#")
        places["initial"] = f"{(folder / Path(place).expanduser()).resolve()}{hash_}{rest}"
    return experiment.model_copy(update={"task": task.model_copy(update=places)}) if places else experiment


def _with_config(model: ModelName) -> ModelName:
    try:
        return model.with_config()
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def _with_index_file(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment with its index file's place and digest."""
    if experiment.partition.kind != "file":
        return experiment
    file = (folder / Path(experiment.partition.file).expanduser()).resolve()
    sha256 = experiment.partition.sha256 or hashlib.sha256(index_bytes(file)).hexdigest()
    partition = experiment.partition.model_copy(update={"file": str(file), "sha256": sha256})
    return experiment.model_copy(update={"partition": partition})
