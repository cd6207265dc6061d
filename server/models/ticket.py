"""The models of a run as plain state dicts: a client's ticket, and the global one; and their strategy's own tensors."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.payload import plain_name
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.extrastate import ExtraState
from lotteryfl.server.store.rundb.rows import ClientRow
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import Strategy


def ticket_tensors(run: RunDirectory, client: int) -> dict[str, Tensor]:
    """Return the model that a client last returned: personalised, exactly 0 where its mask prunes.

    A client that never took part has the global model, under the mask that all share if there is one. It has all
    names of the plain model's state dict, those of tied tensors too, but for what modules keep by `get_extra_state`
    and is no tensor.

    Raises:
        LotteryFLError: there is no such client.
    """
    row = client_row(run, client)
    strategy = create_strategy(run.experiment)
    if row.ticket:
        tensors = _returned(run, row, strategy)
    else:
        tensors = open_file(run.model_path(run.model_round))
        if strategy.starts_under == "shared mask":
            tensors |= _masked(run, tensors)
    return _whole(run, tensors)


def global_tensors(run: RunDirectory, round_: int | None = None) -> dict[str, Tensor]:
    """Return a global model as the rounds made it, with all names of the plain model's state dict.

    Args:
        run: whose it is.
        round_: that made it, of those whose models are kept; 0: θ_0; None: the newest.

    Raises:
        LotteryFLError: there is none of that round.
    """
    return _whole(run, open_file(run.model_path(known_round(run, round_))))


def known_round(run: RunDirectory, round_: int | None) -> int:
    """Return the round of a global model that is there; of the newest, where it is None.

    Raises:
        LotteryFLError: there is none of that round.
    """
    if round_ is None:
        return run.model_round
    there = run.rounds_with_models()
    if round_ not in there:
        kept = ", ".join(map(str, there))
        raise LotteryFLError(f"round {round_}: its global model is not in {run.path}: expected one of {kept}")
    return round_


def strategy_tensors(run: RunDirectory, client: int | None = None, round_: int | None = None) -> dict[str, Tensor]:
    """Return the tensors of the strategy's own that all share, as of a global model, or those that are one client's.

    Raises:
        LotteryFLError: there is no such client, or no such model.
    """
    names = [spec.name for spec in run.table.added if spec.role == ("shared" if client is None else "own")]
    row = None if client is None else client_row(run, client)
    if not names:
        return {}
    if row is not None and row.ticket:
        tensors = _returned(run, row, create_strategy(run.experiment))
    else:
        tensors = open_file(run.model_path(known_round(run, round_)))
    return {name: tensors[name] for name in names}


def client_row(run: RunDirectory, client: int) -> ClientRow:
    """Return what run.db knows of a client.

    Raises:
        LotteryFLError: there is no such client.
    """
    clients = run.database.clients()
    if not 0 <= client < len(clients):
        raise LotteryFLError(f"client {client}: the run's clients are 0 to {len(clients) - 1}")
    return clients[client]


def _returned(run: RunDirectory, row: ClientRow, strategy: Strategy) -> dict[str, Tensor]:
    """Return what a client last returned, whole, but for what only came up."""
    entries, masks = open_file(run.tensor_path(row.ticket)), run.load_masks(row.mask)
    wire = run.wire.of_result(pb.Plan())
    entries = {key: tensor for key, tensor in entries.items() if plain_name(key) in wire.rows}
    return wire.unpack(entries, masks, own=strategy.owns_unkept)


def _whole(run: RunDirectory, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = run.with_frozen(run.of_model(tensors))
    aliases = {alias: tensors[spec.name] for spec in run.model_table for alias in spec.aliases}
    return {**tensors, **aliases, **ExtraState.kept(run.database).tensors}


def _masked(run: RunDirectory, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    masks = run.load_masks(run.shared_mask.digest)
    kept = {name: packedmasks.unpack(mask, tensors[name].shape) for name, mask in masks.items()}
    return {name: tensors[name].masked_fill(~mask, 0) for name, mask in kept.items()}
