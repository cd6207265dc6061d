"""Every reader of bytes that come from somebody else, as a function of bytes: a new one is a line here."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import experiment as experiments
from tests.fuzz import payload as payloads
from tests.fuzz import rundir as runs
from tests.fuzz.guard import Read
from tests.fuzz.mutate import Mutate, after, mutate_bytes, mutate_file, mutate_json

CORPUS = Path(__file__).parent / "corpus"
"""A folder of kept inputs for each target."""


class Target(NamedTuple):
    """A reader."""

    read: Read
    seeds: Callable[[], Iterable[bytes]]
    """Valid inputs to start from."""
    mutate: Mutate
    """Changes an input as its format allows, for errors that lie deep."""


TARGETS = {
    "stream": Target(payloads.stream, payloads.stream_seeds, payloads.mutate_stream),
    "file": Target(payloads.file, payloads.file_seeds, mutate_file),
    "received-file": Target(payloads.received_file, payloads.received_file_seeds, after(1, mutate_file)),
    "mask-update": Target(payloads.mask_update, payloads.mask_update_seeds, after(1, mutate_file)),
    "values": Target(payloads.values, payloads.values_seeds, after(1, mutate_file)),
    "table": Target(payloads.table, payloads.table_seeds, mutate_json),
    "experiment": Target(experiments.experiment, experiments.experiment_seeds, experiments.mutate_experiment),
    "experiment-json": Target(experiments.experiment_json, experiments.experiment_json_seeds, mutate_json),
    "index-file": Target(experiments.index_file, experiments.index_file_seeds, mutate_json),
    "idx": Target(experiments.idx, experiments.idx_seeds, experiments.mutate_idx),
    "result": Target(runs.result, runs.result_seeds, runs.mutate_result),
    "run-directory": Target(runs.run_directory, runs.run_directory_seeds, runs.mutate_run_directory),
}
if find_spec("constriction"):
    TARGETS["coded-mask"] = Target(payloads.coded_mask, payloads.coded_mask_seeds, mutate_bytes)
