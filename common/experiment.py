"""The experiment file: its schema and defaults, and errors that name the key, its value and what is allowed."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from common.clientranges import parse_clients
from common.errors import ExperimentError
from common.identity import IdentityError, check_name
from common.quantization import WireDtype
from common.tensorlayout import quoted

TOMLTable = dict[str, Any]

_NO_TOML = (ValueError, RecursionError)
"""Of tomllib: a number of thousands of digits and values nested as deep are no TOMLDecodeError."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "strategy": {"scope": "layer", "gate": "test", "rewind": "everything", "overshoot": True},
        "aggregation": {"weighting": "equal"},
    }
}
"""What `strategy.preset` sets, section by section, wherever the experiment does not give the key itself."""

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Fits into every integer of the contract and of run.db."""

MIN_LEASE_SECONDS = 1.0
"""A heartbeat is sent every third of a lease; to a busy coordinator it may take a third of a second."""

MAX_LEASE_SECONDS = 7 * 86400.0
"""Longer than anybody waits for a worker that died."""

MAX_EXAMPLES = 2**40
"""A client's training examples beyond this are not believed: they are weights in a mean."""

_MAX_JSON = 2**20
"""Characters of an experiment as the coordinator sends it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskSettings(_Section):
    """What is learned: data and model."""

    name: str = Field("digits", min_length=1, max_length=256)
    """A built-in task (one of `common.tasks.BUILT_IN`) or the user's own: a .py file or a module."""
    model: str = Field("mlp", min_length=1, max_length=64)
    """Architecture for the built-in tasks, as `common.models.create_model` takes it."""
    data_dir: str = ""
    """Folder with the task's files; empty: the usual places."""


class PartitionSettings(_Section):
    """Who holds which examples."""

    kind: Literal["n-class", "dirichlet", "iid", "feature-skew", "natural"] = "n-class"
    classes_per_client: Count = 2
    examples_per_class: Count = 20
    """Training + validation examples of a client's first class (n-class)."""
    balance: PositiveShare = 1.0
    """A client's other classes hold round(balance * examples_per_class) examples (n-class)."""
    alpha: float = Field(0.5, gt=0)
    """Concentration of the class proportions; small is more skewed (dirichlet)."""
    examples_per_client: Count = 40
    """Training + validation examples of every client (dirichlet, iid, feature-skew)."""
    rotations: int = Field(4, ge=1, le=360)
    """Client k's images are turned by k mod rotations steps of 360 / rotations degrees (feature-skew)."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class TrainingSettings(_Section):
    """Local training on a client."""

    epochs: Count = 5
    batch_size: Count = 8
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd; the others keep torch's defaults."""
    weight_decay: float = Field(0.0, ge=0)
    threads: int = Field(1, ge=1, le=1024)
    """torch threads of a worker: part of the experiment, because it changes the order of sums."""


class StrategySettings(_Section):
    """How clients' work is planned; which keys matter to a strategy, its file says."""

    name: str = Field("lotteryfl", min_length=1, max_length=64)
    """A file of `server.strategies`; the coordinator checks the name."""
    preset: Literal["", "paper"] = ""
    """"paper": what LotteryFL's official code does, wherever a key is not given; see `PRESETS`."""
    prune_rate: PositiveShare = 0.2
    target_density: PositiveShare = 0.1
    """The kept fraction of the prunable weights at which pruning stops."""
    accuracy_threshold: Share = 0.5
    """Accuracy from which a client prunes."""
    gate: Literal["validation", "test"] = "validation"
    """What it is measured on: the client's validation data, or up to 80 of its test examples, as the official code."""
    rewind: Literal["initial", "everything", "none"] = "initial"
    scope: Literal["global", "layer"] = "global"
    prunable: Literal["matrices", "every-weight"] = "matrices"
    overshoot: bool = False
    """Let the last pruning keep its full rate and land below the target, as the official code does."""
    finetune_epochs: int = Field(0, ge=0)
    """Local epochs of the last round, in which every client personalises; 0: as in every round."""
    personal: tuple[str, ...] = ()
    """Names of tensors that are each client's own, as shell patterns; needed by lg-fedavg, allowed in all."""
    proximal: float = Field(0.01, gt=0)
    """μ (fedprox)."""
    threshold_decay: PositiveShare = 0.9
    """Of the accuracy threshold, for every round in which a client did not prune (cell)."""
    min_mask_change: Share = 1e-4
    """Share of the weights in which the masks of the first and the last epoch must differ (sub-fedavg)."""
    jump_start_epochs: int = Field(0, ge=0)
    """Local epochs of round 1, whose best client gives the first model; 0: no jump start (fedltn)."""
    personal_rate: Share = 0.05
    """Share of the weights that a round makes a client's own (fedselect)."""
    personal_limit: Share = 0.3
    """Most that a client owns (fedselect)."""
    readjust_rate: Share = 0.5
    """Share of the kept weights that are exchanged at first (feddst)."""
    readjust_every: int = Field(10, ge=1)
    """Rounds between exchanges (feddst)."""
    options: dict[str, bool | int | float | str] = {}
    """Of a strategy of one's own, which says what they are."""


class ServerSettings(_Section):
    """What the server makes of the mean of the models (Reddi et al. 2021, "Adaptive Federated Optimization")."""

    optimizer: Literal["none", "sgd", "adam", "yogi"] = "none"
    """Takes a step against old model - mean as the gradient; none: the mean is the new model."""
    lr: float = Field(1.0, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """For adam and yogi."""
    eps: float = Field(1e-3, gt=0)
    """τ, for adam and yogi."""


class AggregationSettings(_Section):
    """How the clients' values become the global model's."""

    rule: Literal["mean", "median", "trimmed_mean"] = "mean"
    """Of every element, over the clients whose mask keeps it; see `server.aggregation.rules`."""
    weighting: Literal["examples", "equal"] = "examples"
    """Of the clients (mean)."""
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Share of the values that are left out at each end (trimmed_mean)."""


class EvaluationSettings(_Section):
    """On how much test data models are measured."""

    test_examples: int = Field(0, ge=0, le=2**31 - 1)
    """Most of a client's own test examples that training rounds measure on, drawn once for the whole run; 0: all. The
    last round takes all."""
    global_examples: int = Field(0, ge=0, le=2**31 - 1)
    """Examples of the task's global test data, the same for all clients, on which the last round measures the
    personalised model too; 0: it does not."""


class CheckSettings(_Section):
    """What is believed of a result, and how often a worker may send what is not."""

    max_examples: int = Field(MAX_EXAMPLES, ge=1, le=MAX_EXAMPLES)
    """Training examples that a client may claim: its weight in the mean."""
    max_update_norm: float = Field(0.0, ge=0)
    """Bound of the L2 norm of an update, all floating-point values sent minus the global model's; 0: none."""
    on_large_update: Literal["refuse", "clip"] = "refuse"
    """Beyond that bound a result is refused, or its update is scaled down to it where it is aggregated."""
    max_refusals: int = Field(3, ge=1)
    """Refused results after which a worker gets no more work in the run."""


class PrivacySettings(_Section):
    """What may be learned about one client, or one example, from what is sent; see docs/privacy.md."""

    clip_norm: float = Field(0.0, ge=0)
    """Bound of the L2 norm of an update, all floating-point values sent minus those of before the work; 0: none."""
    noise: Literal["none", "client", "server"] = "none"
    """Gaussian: every client's on its own update, or the server's on the mean of the updates."""
    noise_multiplier: float = Field(1.0, gt=0)
    """Standard deviation of the noise, in units of clip_norm (in the sum of the updates); dp_sgd: of max_grad_norm."""
    dp_sgd: bool = False
    """Local training clips every example's gradient and adds noise (Abadi et al. 2016, Algorithm 1)."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Bound of the L2 norm of an example's gradient (dp_sgd)."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """δ for which ε is told; well below one over the number of clients, or of a client's examples (dp_sgd)."""

    @property
    def is_promised(self) -> bool:
        """Whether there is noise, and so an ε."""
        return self.dp_sgd or self.noise != "none"

    @property
    def hides_loss(self) -> bool:
        """Whether the coordinator must not be told the loss on training examples, which has no noise."""
        return self.dp_sgd or self.noise == "client"


class RoundSettings(_Section):
    """When a round is complete, and how long a worker may be silent."""

    min_results: Count = 1
    """Results without which a round is tried again, when its deadline has passed or clients were given up."""
    retries: int = Field(1, ge=0, le=2**31 - 1)
    """How often it is; then the run fails."""
    deadline: Seconds = 3600.0
    """Seconds after which a round does without the results that are missing; each retry has as many."""
    lease: float = Field(60.0, ge=MIN_LEASE_SECONDS, le=MAX_LEASE_SECONDS)
    """Seconds without a heartbeat after which an assignment goes to another worker."""
    max_attempts: Count = 3
    """Workers that may fail at an assignment before its client sits the round out."""
    broadcasts: bool = True
    """Give a worker of several clients the whole model once where that takes fewer bytes than their kept values."""


class AccessSettings(_Section):
    """Who may work, for which clients; only the coordinator knows of it."""

    workers: dict[str, str] = {}
    """By the name in a worker's certificate or token, clients as 0-9 or 0,3,7-9; empty: everyone, for all."""

    @field_validator("workers")
    @classmethod
    def _readable(cls, workers: dict[str, str]) -> dict[str, str]:
        for name, clients in workers.items():
            try:
                check_name(name)
                parse_clients(clients)
            except (IdentityError, ValueError) as error:
                raise ValueError(f"access.workers.{name}: {error}") from error
        return workers

    def clients_of(self, name: str) -> frozenset[int] | None:
        """Return the clients that a worker may hold; None: it may not work at all."""
        return parse_clients(self.workers[name]) if name in self.workers else None


class Experiment(_Section):
    """One run, whole: the same file and seed give the same bits."""

    seed: int = Field(0, ge=0, lt=2**63)
    rounds: Count = 30
    clients: int = Field(20, ge=1, le=1_000_000)
    clients_per_round: Count = 20
    wire_dtype: WireDtype = "float32"
    """In what the prunable weights travel, both ways, and are kept in clients' results; see `common.wireformat`."""
    task: TaskSettings = TaskSettings()
    partition: PartitionSettings = PartitionSettings()
    training: TrainingSettings = TrainingSettings()
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
    def _with_preset(cls, table: Any) -> Any:
        if not isinstance(table, dict) or not isinstance(strategy := table.get("strategy", {}), dict):
            return table  # what is wrong with it is said elsewhere
        preset = PRESETS.get(str(strategy.get("preset", "")), {})
        given = {name: table.get(name, {}) for name in preset}
        return {**table, **{name: {**preset[name], **keys} for name, keys in given.items() if isinstance(keys, dict)}}

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if self.clients_per_round > self.clients:
            raise ValueError(f"clients_per_round = {self.clients_per_round}: must be at most clients = {self.clients}")
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
        for name, clients in self.access.workers.items():
            if max(parse_clients(clients)) >= self.clients:
                raise ValueError(
                    f"access.workers.{name} = {clients!r}: the experiment's clients are 0 to {self.clients - 1}"
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

    def measures_globally(self, round_: int) -> bool:
        """Tell whether a round measures the personalised model on the task's global test data too."""
        return self.evaluation.global_examples > 0 and round_ > self.rounds


def load(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment file, apply `section.key=value` overrides, and validate the whole.

    A task file named in it is found relative to the experiment file.

    Raises:
        ExperimentError: the file cannot be read or parsed, or a key or value is wrong.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror or error}") from error
    except _NO_TOML as error:
        raise ExperimentError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        _apply_override(table, override)
    experiment = validate(table, source=str(path))
    name = experiment.task.name
    if name.endswith(".py") and not Path(name).is_absolute():
        task = experiment.task.model_copy(update={"name": str((path.parent / name).resolve())})
        experiment = experiment.model_copy(update={"task": task})
    return experiment


def validate(table: TOMLTable, source: str) -> Experiment:
    """Check a parsed table; `source` says in the error where it came from.

    Raises:
        ExperimentError: naming every wrong key, its value and what is allowed.
    """
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        raise ExperimentError(f"{source}: {'; '.join(_sentences(error))}") from error


def from_json(text: str) -> Experiment:
    """Read an experiment as the coordinator sends it.

    Raises:
        ExperimentError: it is not one that this version understands.
    """
    if len(text) > _MAX_JSON:
        raise ExperimentError(f"the coordinator's experiment: {len(text)} characters, expected at most {_MAX_JSON}")
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise ExperimentError(f"the coordinator's experiment: {'; '.join(_sentences(error))}") from error


def to_toml(experiment: Experiment) -> str:
    """Return the resolved experiment as TOML that `load` reads back to an equal value."""
    return tomli_w.dumps(experiment.model_dump())


def _apply_override(table: TOMLTable, override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ExperimentError(f"--set {override}: expected KEY=VALUE, as in --set training.lr=0.05")
    for depth, part in enumerate(parts[:-1], start=1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ExperimentError(f"--set {override}: {'.'.join(parts[:depth])} is a value, not a section")
    table[parts[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except _NO_TOML:
        return text  # a bare word is a string: --set strategy.name=fedavg


def _sentences(error: ValidationError) -> Iterable[str]:
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            yield f"unknown key {key} = {quoted(item['input'])}; allowed here: {', '.join(_known_keys(item['loc']))}"
        elif item["type"] == "value_error":
            yield str(item["ctx"]["error"])
        else:
            yield f"{key} = {quoted(item['input'])}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Experiment
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return list(section.model_fields)
