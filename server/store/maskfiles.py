"""The files of masks: they are there before what they belong to counts, and some of that never does."""

from collections import Counter
from pathlib import Path
from threading import Lock

from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.tensors.file import save
from lotteryfl.common.wire.payload import mask_tensors
from lotteryfl.server.store.runfiles import mask_file


class MaskFiles:
    """Masks by their digest, which several results and threads may have in common."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = Lock()
        self._waiting: Counter[Digest] = Counter()  # how many of what may count soon have a mask

    def keep(self, masks: Masks, digest: Digest) -> None:
        """Have the masks on disk until `settle`."""
        with self._lock:
            self._waiting[digest] += 1
        if (path := mask_file(self._run, digest)).exists():
            sync_folder(path.parent)  # whoever has just made it, in another thread, may not have come so far
        else:
            save(path, mask_tensors(masks), "masks")

    def settle(self, digest: Digest, *, needed: bool) -> None:
        """Say that what had the mask counts or does not; the file goes where neither the run nor another needs it."""
        with self._lock:
            self._waiting[digest] -= 1
            if self._waiting[digest] <= 0:
                del self._waiting[digest]
                if not needed:
                    mask_file(self._run, digest).unlink(missing_ok=True)

    def drop(self, digest: Digest) -> None:
        """Delete masks that the run does not need, unless there is something that may count soon and has them."""
        with self._lock:
            if digest not in self._waiting:
                mask_file(self._run, digest).unlink(missing_ok=True)
