"""The sections of an experiment file: their keys, defaults and bounds; `training` is in `common.training.recipe`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from lotteryfl.common.experiment.clientranges import parse_clients
from lotteryfl.common.models.named import model_name
from lotteryfl.common.section import Count, Section
from lotteryfl.common.security.identity import IdentityError, check_name

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]

WireDtype = Literal["float32", "bfloat16", "float16", "int8"]
"""In what weights travel."""

MaskCoding = Literal["packed", "ans"]
"""As what a changed mask travels: a bit for every weight, or coded by its density (`common.wire.maskcoding`)."""

MIN_LEASE_SECONDS = 1.0
"""A heartbeat is sent every third of a lease; to a busy coordinator it may take a third of a second."""

MAX_LEASE_SECONDS = 7 * 86400.0
"""Longer than anybody waits for a worker that died."""

MAX_EXAMPLES = 2**40
"""A client's training examples beyond this are not believed: they are weights in a mean."""


class TaskSettings(Section):
    """What is learned: data and model."""

    name: str = Field("digits", min_length=1, max_length=256)
    """A built-in task (one of `common.tasks.BUILT_IN`) or the user's own: a .py file or a module."""
    model: str = Field("mlp", min_length=1, max_length=2**18)
    """Architecture for the built-in tasks, as `common.models.create_model` takes it; or a `ModelName`."""
    initial: str = Field("", max_length=4096)
    """Where θ_0 is taken from; empty: it is freshly initialised. Only whoever sets a run up reads it."""
    data_dir: str = ""
    """Folder with the task's files; empty: the usual places."""
    objective: Literal["", "classification", "binary", "regression", "language-modelling", "hugging-face"] = ""
    """Of a task of one's own that gives none itself; empty: classification."""
    options: dict[str, bool | int | float | str] = Field({})
    """Keys of a task of one's own, which says what they are, or of a task without code."""

    @field_validator("model")
    @classmethod
    def _named(cls, model: str) -> str:
        return str(model_name(model) or model)  # as it is read again from what a run keeps


class PartitionSettings(Section):
    """Who holds which examples."""

    kind: Literal[
        "n-class",
        "dirichlet",
        "iid",
        "feature-skew",
        "natural",
        "class-dirichlet",
        "shards",
        "quantity-skew",
        "file",
        "as-ssfl",
        "as-dispfl",
        "as-pfllib",
        "as-fedpruning",
        "as-lotteryfl",
        "as-flasc",
    ] = "n-class"
    """How examples are dealt out: see docs/data.md."""
    classes_per_client: Count = 2
    """Distinct classes of a client, or shards (n-class, as-lotteryfl)."""
    examples_per_class: Count = 20
    """Training + validation examples of a client's first class (n-class, as-lotteryfl)."""
    balance: PositiveShare = 1.0
    """A client's other classes hold round(balance * examples_per_class) examples (n-class, as-lotteryfl)."""
    alpha: float = Field(0.5, gt=0)
    """Concentration of the class proportions, or of the clients' sizes; small is more skewed (dirichlet,
    class-dirichlet, quantity-skew, as-ssfl, as-dispfl, as-pfllib, as-fedpruning, as-flasc)."""
    examples_per_client: int = Field(40, ge=0, le=2**31 - 1)
    """Training + validation examples of every client; 0: all, in equal parts (dirichlet, iid, feature-skew)."""
    min_examples: Count = 10
    """Least that a client holds (class-dirichlet, quantity-skew)."""
    shards_per_client: Count = 2
    """Equal pieces of the examples in the order of their classes (shards)."""
    rotations: int = Field(4, ge=1, le=360)
    """Client k's images are turned by k mod rotations steps of 360 / rotations degrees (feature-skew)."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of a client's examples, class by class, that decides about pruning and is not trained on; 0: nothing is put
    aside, and what is measured on validation data is measured on the training data."""
    file: str = Field("", max_length=4096)
    """Index file that says who holds what (file)."""
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """Of that file; empty in an experiment file: as it is when the run is set up."""

    @property
    def without_place(self) -> "PartitionSettings":
        """The same for other machines, with the index file's name alone."""
        return self.model_copy(update={"file": Path(self.file).name})


class StrategySettings(Section):
    """How clients' work is planned; which keys matter to a strategy, its file says."""

    name: str = Field("lotteryfl", min_length=1, max_length=64)
    """A file of `server.strategies`; the coordinator checks the name."""
    preset: Literal["", "paper"] = ""
    """"paper": what LotteryFL's official code does, wherever a key is not given; see `PRESETS`."""
    prune_rate: PositiveShare = 0.2
    """Share of the kept weights that one pruning takes away."""
    target_density: PositiveShare = 0.1
    """The kept fraction of the prunable weights at which pruning stops."""
    accuracy_threshold: Share = 0.5
    """Accuracy from which a client prunes."""
    score_threshold: float | None = None
    """For a task with an objective of its own, the score from which it does; None: always."""
    gate: Literal["validation", "test"] = "validation"
    """What it is measured on: the client's validation data, or up to 80 of its test examples, as the official code."""
    rewind: Literal["initial", "everything", "none"] = "initial"
    """What a pruning takes back to θ_0: the kept weights, every parameter, or nothing."""
    scope: Literal["global", "layer"] = "global"
    """Through what one threshold goes: all tensors together, or each by itself."""
    prunable: Literal["matrices", "every-weight", "every-parameter"] = "matrices"
    """What can be pruned: matrices, no norms or biases; every parameter whose name has "weight" in it; or all."""
    overshoot: bool = False
    """Let the last pruning keep its full rate and land below the target, as the official code does."""
    finetune_epochs: int = Field(0, ge=0)
    """Local epochs of the last round, in which every client personalises; 0: as in every round."""
    personal: tuple[str, ...] = ()
    """Names of tensors that are each client's own, as shell patterns; needed by lg-fedavg and one-ticket, allowed in
    all."""
    proximal: float = Field(0.01, gt=0)
    """μ (fedprox)."""
    threshold_decay: PositiveShare = 0.9
    """Factor of the threshold for every round in which a client did not prune (cell)."""
    min_mask_change: Share = 1e-4
    """Share of the weights in which the masks of the first and the last epoch must differ (sub-fedavg)."""
    jump_start_epochs: int = Field(0, ge=0)
    """Local epochs of round 1, whose best client gives the first model; 0: no jump start (fedltn)."""
    personal_rate: Share = 0.05
    """Share of the weights that a round makes a client's own (fedselect)."""
    personal_limit: Share = 0.3
    """Most that a client owns (fedselect)."""
    saliency_from: Literal["sample", "everyone"] = "sample"
    """Whose saliencies make the mask: those of a round's clients, by their examples, or every client's alike (ssfl,
    one-ticket, balanced-ticket)."""
    saliency_examples: int = Field(0, ge=0, le=2**31 - 1)
    """Of a client's training examples, on how many its saliencies are measured, drawn at random; 0: all (ssfl,
    one-ticket, balanced-ticket)."""
    readjust_rate: Share = 0.5
    """Share of the kept weights that are exchanged (feddst, dispfl, fedtiny), or may go (prunefl, fedrts), at first."""
    readjust_every: int = Field(10, ge=1)
    """Rounds between exchanges (feddst, fedtiny, prunefl, fedrts)."""
    readjust_until: int = Field(0, ge=0, le=2**31 - 1)
    """The last round that may exchange; 0: half of all (feddst, fedtiny, fedrts)."""
    widths: tuple[PositiveShare, ...] = Field((1.0, 0.5, 0.25), min_length=1)
    """Of its classes of clients, the share of a layer's units that one has; client k is of class k mod their number
    (heterofl)."""
    options: dict[str, bool | int | float | str] = Field({})
    """Keys of the strategy, which says what they are."""


class ServerSettings(Section):
    """What the server makes of the mean of the models (Reddi et al. 2021, "Adaptive Federated Optimization")."""

    optimizer: Literal["none", "sgd", "adam", "yogi"] = "none"
    """Takes a step against old model - mean as the gradient; none: the mean is the new model."""
    lr: float = Field(1.0, gt=0)
    """Learning rate of the server's steps."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """For adam and yogi."""
    eps: float = Field(1e-3, gt=0)
    """τ, for adam and yogi."""
    weight_decay: float = Field(0.0, ge=0)
    """Of adam: the share of each weight, times lr, that a step takes off, beside the gradient, as AdamW does."""


class AggregationSettings(Section):
    """How the clients' values become the global model's."""

    rule: Literal["mean", "median", "trimmed_mean"] = "mean"
    """What becomes of the clients' values of an element, where their masks keep it; see `server.aggregation.rules`."""
    weighting: Literal["examples", "equal"] = "examples"
    """Weights of the clients in the mean: their training examples, or the same for all (mean)."""
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Share of the values that are left out at each end (trimmed_mean)."""


class EvaluationSettings(Section):
    """On how much test data models are measured, and what comes of it."""

    test_examples: int = Field(0, ge=0, le=2**31 - 1)
    """Most of a client's own test examples that training rounds measure on, drawn once for the whole run; 0: all. The
    last round takes all."""
    global_examples: int = Field(0, ge=0, le=2**31 - 1)
    """Examples of the task's global test data, the same for all clients, on which the last round measures the
    personalised model too; 0: it does not."""
    global_every: int = Field(0, ge=0, le=2**31 - 1)
    """Rounds between measurements of the shared model itself on that data, of `global_examples` or else of all of it,
    from θ_0 on and after the last; 0: none."""
    new_clients: int = Field(0, ge=0, le=999_999)
    """The last of the clients, which take part in no round that trains and are measured in the last alone."""
    batch_size: Count = 256
    """Examples at a time, where nothing is trained."""
    patience: int = Field(0, ge=0, le=2**31 - 1)
    """Rounds in a row of which none has a better mean score than all before, neither of the downloaded models nor of
    the personalised ones, after which only the last round is left; 0: all rounds are."""
    keep_best: bool = False
    """Keep the global model whose clients' mean score was the best when they downloaded it, beside the newest."""
    keep: str = "last"
    """Which global models stay beside θ_0: the newest alone; the best too, as with `keep_best`; or every Nth too."""

    @field_validator("keep")
    @classmethod
    def _check_keep(cls, keep: str) -> str:
        if not re.fullmatch("last|best|every [1-9][0-9]{0,8}", keep):
            raise ValueError(f"evaluation.keep = {keep!r}: expected last, best or every N, with N from 1 on")
        return keep

    @property
    def keeps_best(self) -> bool:
        """Whether the best global model stays."""
        return self.keep_best or self.keep == "best"

    def keeps(self, round_: int) -> bool:
        """Tell whether the global model that a round makes stays when the next one is made."""
        every = self.keep.removeprefix("every ")
        return every.isdecimal() and round_ % int(every) == 0

    def said_to_keep(self) -> str:
        """Return what says that another global model than the newest stays, as key and value; '': none does."""
        if self.keep != "last":
            return f"evaluation.keep = {self.keep!r}"
        return "evaluation.keep_best = true" if self.keep_best else ""


class CheckSettings(Section):
    """What is believed of a result, and how often a worker may send what is not."""

    max_examples: int = Field(MAX_EXAMPLES, ge=1, le=MAX_EXAMPLES)
    """Training examples that a client may claim: its weight in the mean."""
    max_update_norm: float = Field(0.0, ge=0)
    """Bound of the L2 norm of an update, all floating-point values sent minus the global model's; 0: none."""
    on_large_update: Literal["refuse", "clip"] = "refuse"
    """Beyond that bound a result is refused, or its update is scaled down to it where it is aggregated."""
    max_refusals: int = Field(3, ge=1)
    """Refused results after which a worker gets no more work in the run."""


class PrivacySettings(Section):
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


class EngineSettings(Section):
    """By what local training is computed: a family of bits of its own."""

    stacked: int = Field(0, ge=0, le=1024)
    """Clients with the same plan that train as one model, a row each; 0: every client by itself."""

    def __str__(self) -> str:
        return f"stacked {self.stacked}" if self.stacked else "plain"


class RoundSettings(Section):
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
    leases: int = Field(2, ge=1, le=2)
    """Assignments that a worker may have: with 2, the next one comes and the last one goes while one is worked on."""
    broadcasts: bool = True
    """Give a worker of several clients the whole model once where that takes fewer bytes than their kept values."""


class AccessSettings(Section):
    """Who may work, for which clients; only the coordinator knows of it."""

    workers: dict[str, str] = Field({})
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
