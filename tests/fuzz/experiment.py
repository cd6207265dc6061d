"""Targets: what reads an experiment, as its author writes it and as the coordinator sends it; and data sets."""

import gzip
import json
import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np

from lotteryfl.common.experiment.experiment import Experiment, from_json, load, to_toml
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.datasets.idx import read_idx
from lotteryfl.common.tasks.partition import Partition
from lotteryfl.common.tasks.partition.indexfile import read_index_file
from tests.fuzz.folder import folder
from tests.fuzz.mutate import mutate_bytes, mutate_toml

SEPARATOR = b"\n--set\n"

_TRAIN, _TEST = np.arange(40) % 2, np.arange(20) % 2
"""Classes of the examples that an index file is about."""


def _file(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


# -- the file, and what `--set` changes in it


def experiment(data: bytes) -> None:
    """What is understood is written as TOML that is understood as the same."""
    text, *overrides = data.split(SEPARATOR)
    found = load(_file("experiment.toml", text), [override.decode(errors="surrogateescape") for override in overrides])
    assert load(_file("resolved.toml", to_toml(found).encode())) == found


def experiment_seeds() -> Iterable[bytes]:
    template = resources.files("lotteryfl.common.experiment").joinpath("template.toml").read_bytes()
    resolved = to_toml(Experiment()).encode()
    yield template
    yield resolved
    yield SEPARATOR.join((resolved, b"training.lr=0.05", b"strategy.name = fedavg", b'task={name="x.py"}'))


def mutate_experiment(data: bytes, random: Random) -> bytes:
    parts = data.split(SEPARATOR)
    at = random.randrange(len(parts))
    parts[at] = mutate_toml(parts[at], random)
    if random.random() < 0.1:
        parts.append(random.choice((b"seed=1", b"a.b=[1]", b"task.name=x.py", b"round.lease.x=1")))
    return SEPARATOR.join(parts)


# -- as JSON


def experiment_json(data: bytes) -> None:
    """What is understood is written as JSON that is understood as the same."""
    found = from_json(data.decode(errors="replace"))
    assert from_json(found.model_dump_json()) == found


def experiment_json_seeds() -> Iterable[bytes]:
    yield Experiment().model_dump_json().encode()
    yield Experiment(seed=2**63 - 1, wire_dtype="int8").model_dump_json(indent=1).encode()


# -- an index file, of two clients


def index_file(data: bytes) -> None:
    """What is read is what the file says, without an example that there is not; and clients have parts of it."""
    path = _file("who.json", data)
    listed = read_index_file(path, "", 2, len(_TRAIN), len(_TEST))
    told = json.loads(data)
    for client, found in enumerate(listed):
        entry = told[client] if isinstance(told, list) else told[str(client)]
        parts = {name: part.tolist() for name, part in vars(found).items() if part is not None}
        assert parts == (entry if isinstance(entry, dict) else {"train": entry})
        assert len(set(found.held.tolist())) == len(found.held)
        assert set(found.held.tolist()) <= set(range(len(_TRAIN)))
        assert found.test is None or set(found.test.tolist()) <= set(range(len(_TEST)))
    settings = PartitionSettings(kind="file", file=str(path), validation_share=0.25)
    dealt = Partition(_TRAIN, _TEST, settings, 2, 0)
    for client, found in enumerate(listed):
        held = dealt.client(client)
        assert sorted([*held.train, *held.validation]) == sorted(found.held)


def index_file_seeds() -> Iterable[bytes]:
    yield json.dumps([[8, 6, 4, 2], {"train": [9, 1], "validation": [3], "test": [7, 0]}, "not asked for"]).encode()
    yield json.dumps({"1": [0, 2, 4, 6, 8], "0": {"train": [1, 3, 5, 7]}}).encode()


# -- a data set's file: dimensions and whether it is gzipped, and the file


def idx(data: bytes) -> None:
    """What is read is as long as the file says."""
    options, content = data[0] if data else 0, data[1:]
    if options & 4:
        content = gzip.compress(content, 1, mtime=0)
    name = "data.gz" if options & 8 or options & 4 else "data"
    array = read_idx(_file(name, content), 3 if options & 2 else 1)
    assert array.dtype == np.uint8
    if options & 12 == 0:
        assert content.endswith(array.tobytes())


def idx_seeds() -> Iterable[bytes]:
    labels = b"\0\0\x08\1\0\0\0\3\1\2\3"
    images = b"\0\0\x08\3\0\0\0\1\0\0\0\2\0\0\0\2abcd"
    yield from (
        b"\0" + labels,
        b"\2" + images,
        b"\4" + labels,
        b"\6" + images,
        b"\x08" + gzip.compress(labels, mtime=0),
    )


def mutate_idx(data: bytes, random: Random) -> bytes:
    """Change bytes; those of a gzip file inside it too."""
    options, content = data[:1], data[1:]
    if content[:2] == b"\x1f\x8b" and random.random() < 0.5:
        with suppress(OSError, EOFError, zlib.error):
            content = gzip.compress(mutate_bytes(gzip.decompress(content), random), mtime=0)
            return options + content
    return mutate_bytes(data, random)
