"""What a worker holds by digest: masks, θ_0 and the round's model. All of it can be fetched again."""

from collections.abc import Mapping
from threading import Lock

from cachetools import LRUCache
from torch import Tensor

from lotteryfl.client.connection import Connection
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.wire.format import check_model
from lotteryfl.common.wire.payload import masks_from_entries, max_payload_bytes
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

_MASK_BYTES = 256 << 20


class Content:
    """Fetches what it does not hold."""

    def __init__(
        self,
        connection: Connection,
        table: TensorTable,
        worker_id: WorkerId,
        initial_digest: Digest,
    ) -> None:
        """Fetch θ_0.

        Args:
            connection: to the coordinator.
            table: of the whole model and its strategy.
            worker_id: of this worker.
            initial_digest: SHA-256 of θ_0's file.

        Raises:
            PayloadError: what came is not a model as the table says.
        """
        self._connection = connection
        self._table = table.moving
        self._worker_id = worker_id
        self.limit = max_payload_bytes(table)
        self._masks: LRUCache[Digest, Masks] = LRUCache(_MASK_BYTES, getsizeof=_mask_bytes)
        self._lock = Lock()  # masks are remembered when a result is returned, while others are fetched
        self._initial_digest = initial_digest
        self.initial = self._fetch(initial_digest, "")
        """θ_0 by plain name."""
        check_model(table, self.initial, lambda: self.initial)
        self.limit = max_payload_bytes(table.moving)
        """Most bytes that come at once from now on: what is frozen has come."""
        self._model_digest = Digest("")
        self._model: Mapping[str, Tensor] = {}

    def masks(self, assignment: pb.Assignment) -> Masks:
        """Return the packed masks that an assignment's client has; none: it is dense.

        Raises:
            ContentGoneError: the coordinator has them no more.
            PayloadError: what came is not what the table says.
        """
        digest = Digest(assignment.mask_digest)
        if not digest:
            return {}
        with self._lock:
            masks: Masks | None = self._masks.get(digest)
        if masks is None:
            masks = masks_from_entries(self._table, self._fetch(digest, assignment.assignment_id))
            self.remember(digest, masks)
        return masks

    def base(self, assignment: pb.Assignment) -> Mapping[str, Tensor]:
        """Return the whole model that an assignment starts from, by plain name; of θ_0, with what is frozen.

        Raises:
            ContentGoneError: the coordinator has it no more.
            PayloadError: what came is not what the table says.
        """
        digest = Digest(assignment.base_digest)
        if digest == self._initial_digest:
            return self.initial
        if digest != self._model_digest:
            self._model, self._model_digest = {}, Digest("")  # first, so that not both are in memory
            model = self._fetch(digest, assignment.assignment_id)
            check_model(self._table, model, lambda: self.initial)
            self._model, self._model_digest = model, digest
        return self._model

    def remember(self, digest: Digest, masks: Masks) -> None:
        """Keep masks for the client's next assignment."""
        if masks and _mask_bytes(masks) <= self._masks.maxsize:
            with self._lock:
                self._masks[digest] = masks

    def _fetch(self, digest: Digest, assignment_id: str) -> dict[str, Tensor]:
        content = self._connection.fetch_blob(digest, self.limit, self._worker_id, assignment_id)
        return parse(content, f"content {digest[:12]}")


def _mask_bytes(masks: Masks) -> int:
    return sum(mask.nbytes for mask in masks.values())
