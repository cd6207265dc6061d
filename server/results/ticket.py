"""A client's ticket as a plain state dict in a safetensors file."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.privatefiles import SHARED_FILE
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy


def ticket_tensors(run: RunDirectory, client: int) -> dict[str, Tensor]:
    """Return the model that a client last returned: personalised, exactly 0 where its mask prunes.

    A client that never took part has the global model, under the mask that all share if there is one. It has all
    names of the plain model's state dict, those of tied tensors too.

    Raises:
        LotteryFLError: there is no such client.
    """
    clients = run.database.clients()
    if not 0 <= client < len(clients):
        raise LotteryFLError(f"client {client}: the run's clients are 0 to {len(clients) - 1}")
    row = clients[client]
    strategy = create_strategy(run.experiment)
    if row.ticket:
        entries, masks = open_file(run.tensor_path(row.ticket)), run.load_masks(row.mask)
        tensors = run.wire.unpack(entries, masks, own=strategy.owns_unkept)
    else:
        tensors = open_file(run.model_path(run.model_round))
        if strategy.starts_under == "shared mask":
            tensors |= _masked(run, tensors)
    tensors = run.with_frozen(tensors)
    return tensors | {alias: tensors[spec.name] for spec in run.model_table for alias in spec.aliases}


def export_ticket(run: RunDirectory, client: int, out: Path) -> None:
    """Write `ticket_tensors`: `model.load_state_dict(safetensors.torch.load_file(out))`.

    Raises:
        LotteryFLError: there is no such client, or the file cannot be written.
    """
    tensors = ticket_tensors(run, client)
    try:
        save(out, tensors, mode=SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror}") from error


def _masked(run: RunDirectory, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    masks = run.load_masks(run.shared_mask.digest)
    kept = {name: packedmasks.unpack(mask, tensors[name].shape) for name, mask in masks.items()}
    return {name: tensors[name].masked_fill(~mask, 0) for name, mask in kept.items()}
