"""What `[launch.slurm]` says: which part of the cluster, for how long, and where the coordinator runs.

Each value becomes a word of a batch script's head, and never more than one.
"""

import re
from datetime import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lotteryfl.common.section import Count, Section

_WORD = re.compile(r"[A-Za-z0-9_.,:@%+/=&|!*()\[\]-]{0,256}")
"""What Slurm's own values are made of: names, lists, `[a100*2&b]`, 1-12:00:00, 64G."""
_GPUS = re.compile(r"(?:[A-Za-z0-9_.-]+:)?[0-9]{1,4}")
_TIME = re.compile(r"(?:[0-9]+-)?[0-9]+(?::[0-9]{1,2}){0,2}|")
_MEMORY = re.compile(r"[0-9]+[KMGT]?|")
_OPTION = re.compile(r"--?[A-Za-z][^\n\r]*")


def _text(value: object) -> object:
    """Return as text what TOML has types of its own for: 60 and 04:00:00."""
    return str(value) if isinstance(value, int | time) and not isinstance(value, bool) else value


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError(f"slurm: {value!r}: expected one word as sbatch takes it")
    return value


def _gpus(value: str) -> str:
    if not _GPUS.fullmatch(value):
        raise ValueError(f"slurm.gpus_per_node = {value!r}: expected a number, or TYPE:NUMBER as a100:4")
    return value


def _time(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError(
            f"slurm.time = {value!r}: expected minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS:MINUTES:SECONDS"
        )
    return value


def _memory(value: str) -> str:
    if not _MEMORY.fullmatch(value):
        raise ValueError(f"slurm.mem = {value!r}: expected megabytes, or a number with K, M, G or T, as 64G")
    return value


def _option(value: str) -> str:
    if not _OPTION.fullmatch(value):
        raise ValueError(f"slurm.lines: {value!r}: expected an option of sbatch in one line, as --reservation=night")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError(f"slurm: {value!r}: expected one line of printable characters")
    return value


_Text = Annotated[str, BeforeValidator(_text)]
_Word = Annotated[_Text, AfterValidator(_word)]
_Line = Annotated[str, AfterValidator(_line)]


class SlurmSettings(Section):
    """Which part of a cluster, for how long, and where the coordinator runs; '' and 0: as the cluster has it."""

    partition: _Word = ""
    """As sbatch's --partition; '': the cluster's own."""
    account: _Word = ""
    """As sbatch's --account; '': your own."""
    qos: _Word = ""
    """As sbatch's --qos; '': the usual one."""
    time: Annotated[_Text, AfterValidator(_time)] = ""
    """The limit of a job: minutes, or as 1-12:00:00. One that ends by it is requeued and goes on, with `requeue`."""
    nodes: Count = 1
    """Of a job."""
    gpus_per_node: Annotated[_Text, AfterValidator(_gpus)] = "0"
    """A number, or TYPE:NUMBER; each of them has `workers_per_device` workers."""
    cpus_per_task: Annotated[int, Field(ge=0, le=65536)] = 0
    """Cores on each node."""
    mem: Annotated[_Text, AfterValidator(_memory)] = ""
    """On each node, as 64G."""
    constraint: _Word = ""
    """Features of nodes."""
    lines: tuple[Annotated[str, AfterValidator(_option)], ...] = ()
    """More options of sbatch, as --reservation=night."""
    modules: tuple[_Word, ...] = ()
    """Loaded by `module load` before the lines of `setup`."""
    container: _Line = ""
    """An image, in which the program is called; '': none."""
    container_program: Literal["apptainer", "singularity"] = "apptainer"
    """What runs the container."""
    binds: tuple[_Line, ...] = ()
    """More folders that the container sees, as FROM:TO; those of the run, its files and its data it sees anyway."""
    coordinator: Literal["job", "here"] = "job"
    """In the job, on its first node; or on this machine, which has to stay, with the workers' jobs as an array."""
    host: _Word = ""
    """With the coordinator here: the name or address under which nodes reach this machine; '': its own name."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where the coordinator listens; 0: one that is free, in a job one that follows from the job's number."""
    array: Count = 1
    """With the coordinator here: so many jobs of workers; each joins when it begins."""
    at_once: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """So many of them at most at the same time; 0: as many as the cluster lets."""
    requeue: bool = True
    """A job that was preempted, lost a node or came to its time limit waits again for its turn, and goes on."""
    stop_seconds: Annotated[int, Field(ge=30, le=65535)] = 120
    """So long before the time limit workers hand back what they have under work, and the coordinator stops."""
    ask_seconds: Count = 5
    """Between two questions to Slurm where the jobs stand."""

    @model_validator(mode="after")
    def _arrays_join_a_coordinator_here(self) -> "SlurmSettings":
        if self.coordinator == "job" and (self.array > 1 or self.at_once):
            key, value = ("array", self.array) if self.array > 1 else ("at_once", self.at_once)
            raise ValueError(
                f"slurm.{key} = {value}: needs slurm.coordinator = 'here': jobs of an array cannot join one in a job"
            )
        if self.coordinator == "job" and self.host:
            raise ValueError(
                f"slurm.host = {self.host!r}: needs slurm.coordinator = 'here'; in a job its node has a name"
            )
        return self

    @property
    def has_cards(self) -> bool:
        """Whether there are cards on the nodes."""
        return int(self.gpus_per_node.rpartition(":")[2]) > 0
