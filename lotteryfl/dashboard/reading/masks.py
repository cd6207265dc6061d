"""Masks out of their files, without torch: the page's process stays small."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lotteryfl.common.errors import PayloadError
from lotteryfl.server.results.reporting.overlap import measure_overlap
from lotteryfl.server.store.record import RunRecord

Packed = npt.NDArray[np.uint8]
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENTRY = "mask/"


def kept_by_layer(run: Path, digest: str) -> dict[str, int]:
    """Return by tensor's name how many weights a mask keeps."""
    return {name: int(np.bitwise_count(bits).sum(dtype=np.int64)) for name, bits in _load(run, digest).items()}


def read_overlap(run: RunRecord) -> dict[str, Any]:
    """Return how much the clients' masks overlap, like ones beside each other."""
    if run.experiment.privacy.is_promised:
        return {"of": 0, "after": run.model_round, "clients": [], "jaccard": []}
    rows = run.database.clients()[: run.database.participants]
    loaded = {digest: _load(run.path, digest) for digest in {row.mask for row in rows} if digest}
    overlap = measure_overlap([loaded.get(row.mask, {}) for row in rows], [row.client for row in rows])
    found: dict[str, Any] = {"of": sum(bool(row.mask) for row in rows), "after": run.model_round}
    if overlap is None:
        return {**found, "clients": [], "jaccard": []}
    order = _like_together(overlap.jaccard)
    jaccard = overlap.jaccard[np.ix_(order, order)].round(3)
    return {**found, "clients": overlap.clients[order].tolist(), "jaccard": jaccard.tolist()}


def _like_together(jaccard: npt.NDArray[np.float64]) -> Sequence[int]:
    """Return an order in which clients stand beside those whose masks are like theirs."""
    if len(jaccard) < 3:
        return range(len(jaccard))
    from scipy.cluster.hierarchy import leaves_list, linkage  # takes long to import
    from scipy.spatial.distance import squareform

    order: list[int] = leaves_list(linkage(squareform(1 - jaccard, checks=False), "average")).tolist()
    return order


def _load(run: Path, digest: str) -> Mapping[str, Packed]:
    if not _DIGEST.fullmatch(digest):
        raise PayloadError("a mask's digest: expected 64 hexadecimal digits")
    path = run / "masks" / f"{digest}.safetensors"
    try:
        entries = load_file(path)
    except SafetensorError as error:
        raise PayloadError(f"{path}: {error}") from error
    return {name.removeprefix(_ENTRY): bits for name, bits in entries.items()}
