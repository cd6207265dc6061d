"""What goes out with an assignment: the values that its client starts from."""

from torch import Tensor

from lotteryfl.common.names import FileName
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.payload import OWN, plain_name
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.support.tensors import names_of_own


def assignment_payload(run: RunDirectory, work: Work) -> TensorStream:
    """Return the values that an assignment starts from: the shared model's under its mask, or its own last result's.

    None, where its worker starts from a base.
    """
    if work.assignment.base_digest:
        return TensorStream({})
    entries = open_file(run.tensor_path(work.source))
    if work.is_own_result:
        return TensorStream({key: t for key, t in entries.items() if plain_name(key) in run.wire.rows})
    own = _own_entries(run, work.row.own) if work.row.own else {}
    return run.wire.stream(entries, run.load_masks(work.row.mask), own)


def _own_entries(run: RunDirectory, file: FileName) -> dict[str, Tensor]:
    """Return what of a client's last result is its own: tensors of model and strategy, or the weights off its mask."""
    names = names_of_own(create_strategy(run.experiment), run.table)
    entries = open_file(run.tensor_path(file)).items()
    return {key: t for key, t in entries if key.startswith(OWN) or plain_name(key) in names}
