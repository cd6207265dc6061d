"""A client's ticket as a plain state dict in a safetensors file."""

from pathlib import Path

from torch import Tensor

from common.errors import LotteryFLError
from common.tensorfile import open_file, save
from server.rundir import RunDirectory
from server.runfiles import model_file


def ticket_tensors(run: RunDirectory, client: int) -> dict[str, Tensor]:
    """Return the model that a client last returned: personalised, exactly 0 where its mask prunes.

    A client that never took part has the global model. It has all names of the plain model's state dict, those of
    tied tensors too.

    Raises:
        LotteryFLError: there is no such client.
    """
    clients = run.database.clients()
    if not 0 <= client < len(clients):
        raise LotteryFLError(f"client {client}: the run's clients are 0 to {len(clients) - 1}")
    row = clients[client]
    if row.ticket:
        tensors = run.wire.unpack(open_file(run.tensor_path(row.ticket)), run.load_masks(row.mask))
    else:
        tensors = open_file(run.path / model_file(run.model_round))
    return tensors | {alias: tensors[spec.name] for spec in run.table for alias in spec.aliases}


def export_ticket(run: RunDirectory, client: int, out: Path) -> None:
    """Write `ticket_tensors`: `model.load_state_dict(safetensors.torch.load_file(out))`.

    Raises:
        LotteryFLError: there is no such client, or the file cannot be written.
    """
    tensors = ticket_tensors(run, client)
    try:
        save(out, tensors)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror}") from error
