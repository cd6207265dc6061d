"""What an assignment's work starts from, and what it comes to."""

from collections.abc import Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from torch import Tensor

from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common.memory.peak import Peak
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.protos import lotteryfl_pb2 as pb


@dataclass(frozen=True)
class Ready:
    """What has arrived for an assignment, ready to be worked on."""

    masks: Masks
    """Of its client, packed."""
    workplace: Workplace | None
    """Its model is the one to start from; None: before, the shared model is measured, and one is there at a time."""
    base: Mapping[str, Tensor]
    """The shared model, where it is measured; otherwise nothing."""
    context: Context = field(default_factory=copy_context)
    """In which all that is done for the assignment runs, whichever thread does it: its logs and traces say so."""


@dataclass(frozen=True)
class Outcome:
    """What goes back to the coordinator."""

    examples: int
    metrics: pb.ClientMetrics
    masks: Masks
    mask_digest: Digest
    entries: Mapping[str, Tensor]
    peak: Peak
    """What of memory it took."""


def packed(wire: WireFormat, tensors: Mapping[str, Tensor], masks: Masks, *, own: bool) -> dict[str, Tensor]:
    """Return a model as it travels; the model is then just that, so that what is measured is what arrives.

    Args:
        wire: of the result.
        tensors: of the model by plain name; rounded in place.
        masks: packed masks in force.
        own: weights off the masks are the client's own, and travel too.
    """
    entries = wire.pack(tensors, masks, own=own)
    if not wire.is_lossless:
        wire.unpack_into(entries, masks, tensors, own=own)
    return entries
