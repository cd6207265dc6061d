"""A protocol: an experiment that is fixed but for a few keys, where it is from, and what is known to come of it."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment, changed
from lotteryfl.common.flattened import flattened
from lotteryfl.common.section import Section
from lotteryfl.common.text import quoted

ALWAYS_OPEN = (
    "access",
    "checks",
    "engine",
    "evaluation.batch_size",
    "evaluation.keep",
    "evaluation.keep_best",
    "mask_coding",
    "partition.file",
    "round",
    "task.data_dir",
    "training.loader_workers",
    "training.threads",
)
"""Keys, and sections, that say where and how fast a run is computed and what is kept of it, not what is: every protocol
leaves them open."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)*$")]
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)$")]

ScoreName = Literal["downloaded", "personalised", "global", "shared"]
"""Which of a summary's scores: the mean over clients of the model as it is downloaded, or after local training, each on
the client's own test data; the personalised models' on the global test data; or the shared model's on that."""


class Published(Section):
    """A score that somebody has published."""

    strategy: str
    """Whose, as `strategy.name`; a method that this program does not have is called by its own name."""
    score: float
    """As this program tells it: an accuracy is in [0, 1]."""
    where: str
    """Of what it is the mean, and where it stands."""


class Expected(Section):
    """In which range the score of the protocol's own experiment is expected."""

    low: float
    high: float
    why: str
    """What the range comes from."""

    @model_validator(mode="after")
    def _ascending(self) -> "Expected":
        if self.low > self.high:
            raise ValueError(f"expected.low = {self.low:g}: must be at most expected.high = {self.high:g}")
        return self


class Protocol(Section):
    """A protocol as its file says it."""

    name: str
    """Its file's, for good: what changes gets a new one."""
    title: str
    """In a few words."""
    source: str
    """Paper, and code with its commit."""
    data: str
    """Which data it needs, and where they are had."""
    open: tuple[Key, ...] = ()
    """Keys, and sections, that a contender may choose, beside `ALWAYS_OPEN`."""
    differs: tuple[str, ...] = ()
    """In what it is not what the source does, a sentence each."""
    score: ScoreName = "personalised"
    """Which of the scores is held against those that are published."""
    published: tuple[Published, ...] = ()
    expected: Expected | None = None
    """Of the protocol's own strategy; None: it has not been run."""
    partition_sha256: dict[Seed, SHA256] = Field({})
    """By seed, the digest of who holds what (`common.tasks.partition.digest`)."""
    experiment: Experiment

    @field_validator("name")
    @classmethod
    def _speakable(cls, name: str) -> str:
        if not name.replace("-", "").isalnum() or name != name.lower():
            raise ValueError(f"protocol.name = {quoted(name)}: expected small letters, digits and hyphens")
        return name

    def leaves_open(self, key: str) -> bool:
        """Tell whether a contender may choose a key of the experiment."""
        return any(key == each or key.startswith(f"{each}.") for each in (*self.open, *ALWAYS_OPEN))

    def with_choices(self, overrides: Iterable[str], rounds: int | None = None) -> Experiment:
        """Return the protocol's experiment with what a contender has chosen.

        Args:
            overrides: of open keys, as `section.key=value`.
            rounds: fewer, or more, than the protocol's, for a trial; None: the protocol's.

        Raises:
            ExperimentError: a key is not open, or a value is wrong.
        """
        chosen = list(overrides)
        experiment = changed(self.experiment, chosen)  # before: a key that there is not, is none that is fixed
        for override in chosen:
            self._check_open(override.partition("=")[0].strip())
        return experiment if rounds is None else changed(experiment, [f"rounds={rounds}"], f"--rounds {rounds}")

    def fixed(self, experiment: Experiment) -> dict[str, Any]:
        """Return an experiment's keys that this protocol does not leave open, with their values."""
        flat = flattened(experiment.model_dump(), ".")
        return {key: value for key, value in flat if not self.leaves_open(key)}

    def _check_open(self, key: str) -> None:
        if not self.leaves_open(key):
            choices = ", ".join(sorted((*self.open, *ALWAYS_OPEN)))
            raise ExperimentError(f"--set {key}: protocol {self.name} fixes it; open there: {choices}")
