"""The run directory: everything a run must not forget, in files that any SQLite and safetensors reader opens.

experiment.toml       the experiment as resolved, held against that in run.db; see `store.binding`
run.db                the experiment, rounds, assignments, results, metrics
models/round-NNNN.safetensors    the global model after round NNNN (0000: θ_0)
                                 and the best so far, or every Nth, where evaluation.keep asks for them
models/optimizer-NNNN.safetensors    what the server's optimizer remembers of it, where there is one
masks/DIGEST.safetensors         packed masks, named by content
results/ASSIGNMENT.N.safetensors what clients returned; the last of each client is its ticket
summary.json          written when the run has finished; summary-NNNN.json: before it was made longer
.setup                there while it is set up; where run.db is there too, the run is whole

A set-up is durable step by step: the folder and the way to it, the marker, every other file and folder, and at last
run.db, which gets its name when it is whole. A power cut leaves no run, one to be set up again, or a whole one.
"""

import hashlib
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from torch import Tensor

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.disk.privatefiles import PRIVATE_FILE, PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.common.experiment.experiment import Experiment, to_json, to_toml
from lotteryfl.common.faults import fault
from lotteryfl.common.names import Digest, FileName
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tasks import without_places
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.maskcoding import require_coder
from lotteryfl.common.wire.payload import is_digest, mask_density, mask_digest, mask_tensors, masks_from_entries
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.store.binding import EXPERIMENT_FILE, bind, is_bound, record, write_again
from lotteryfl.server.store.extrastate import ExtraState
from lotteryfl.server.store.keptmask import KeptMask, kept_masks
from lotteryfl.server.store.maskfiles import MaskFiles
from lotteryfl.server.store.record import SETUP, RunRecord, damage_named, require_no_links
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.keptmodels import kept_models
from lotteryfl.server.store.rundb.needed import files_in_use, needs_mask
from lotteryfl.server.store.runfiles import is_tensor_file, mask_file, model_file, optimizer_file, tensor_file
from lotteryfl.server.store.runlock import lock
from lotteryfl.server.store.setupmark import clear, mark, require_free, unmark

FOLDERS = ("models", "masks", "results")
_DRAFT = ".run.db.part"
"""run.db while it is made."""


class NewModel(NamedTuple):
    """A global model that is on disk."""

    sha256: Digest
    """`model_sha256`: over its tensors by name, whatever the file looks like."""
    digest: Digest
    """SHA-256 of its file, by which workers ask for it."""


class RunDirectory(RunRecord):
    """An open run directory; the process that may change it holds its lock."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open a run directory.

        Raises:
            LotteryFLError: there is no run, it is damaged, or another process is running it.
        """
        super().__init__(path, read_only=read_only)

    def _open(self, opened: ExitStack, *, read_only: bool) -> None:
        if not read_only:
            opened.enter_context(lock(self.path))
        super()._open(opened, read_only=read_only)
        if not read_only:
            require_coder(self.experiment.mask_coding)
            self._finish_set_up()
            self._bind()
        self.model_table = TensorTable.from_json(self.database.get("table"))
        """Of the whole model, its strategy's own tensors among them."""
        self.table = self.model_table.moving
        """Of what goes out or comes back in rounds: all of it but for what is frozen."""
        self.knows_frozen = self.database.get("knows_frozen") == "true"
        """Whether the table is of a version that had a role for what is frozen."""
        self._mask_files = MaskFiles(self.path)
        self.wire = WireFormat(self.table, self.experiment.wire_dtype, lambda: open_file(self.model_path(0)))

    def _finish_set_up(self) -> None:
        """Put the end of the set-up on disk, where it may not have come so far, or its marker has come back."""
        if not (self.path / SETUP).exists():
            return
        try:
            sync_folder(self.path)
            unmark(self.path)
        except OSError as error:
            raise cannot_be_written(self.path, error) from error

    def _bind(self) -> None:
        try:
            if not is_bound(self.database):
                with self.database.transaction():
                    bind(self.path, self.database, self.experiment)
            write_again(self.path, self.database, self.experiment)
        except (OSError, sqlite3.Error) as error:
            raise cannot_be_written(self.path, error) from error

    @classmethod
    def create(
        cls,
        path: Path,
        experiment: Experiment,
        table: TensorTable,
        initial: Mapping[str, Tensor],
        masks: Masks | None = None,
        extra: ExtraState | None = None,
        score: Score = ACCURACY,
        origin: Mapping[str, str] | None = None,
        own_masks: Iterable[Masks] = (),
    ) -> Self:
        """Set up a run in a new or empty folder, or in one where that was begun and never finished.

        Args:
            path: the folder; made where it is missing.
            experiment: the resolved experiment.
            table: of the whole model and its strategy.
            initial: θ_0 by plain name, as the table says, what is frozen included, but for what only comes up.
            masks: what all clients start under; none: they are dense.
            extra: what the model's modules keep beside their tensors; None: nothing.
            score: what the run is judged by.
            origin: where θ_0 is from and with which digest, if it is not from the seed.
            own_masks: what each client starts under, in order, where that is its own.

        Raises:
            LotteryFLError: the folder cannot be written or holds something already, or θ_0 is beyond the wire dtype.
        """
        # Means of values that can travel can travel too: if θ_0 can, so can every model of the run.
        WireFormat(table.moving, experiment.wire_dtype).pack(initial, {})
        try:
            path.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
            fault("setup-folder-made")
            require_free(path)
            require_no_links(path)
            with lock(path):
                require_free(path)  # nobody has set one up meanwhile
                mark(path)
                clear(path)
                extra, origin = extra or ExtraState(), origin or {}
                cls._set_up(path, experiment, table, initial, masks or {}, extra, score, origin, own_masks)
                unmark(path)
        except (OSError, sqlite3.Error) as error:
            raise cannot_be_written(path, error) from error
        return cls(path)

    @staticmethod
    def _set_up(
        path: Path,
        experiment: Experiment,
        table: TensorTable,
        initial: Mapping[str, Tensor],
        masks: Masks,
        extra: ExtraState,
        score: Score,
        origin: Mapping[str, str],
        own_masks: Iterable[Masks],
    ) -> None:
        for folder in FOLDERS:
            (path / folder).mkdir(PRIVATE_FOLDER)
        write_text(path / EXPERIMENT_FILE, to_toml(experiment), label="experiment")
        initial_digest = save(path / model_file(0), initial, "models")
        shared = KeptMask(mask_digest(masks), mask_density(table, masks)) if masks else None
        if shared is not None:
            save(mask_file(path, shared.digest), mask_tensors(masks), "masks")
        draft = path / _DRAFT
        draft.touch(PRIVATE_FILE)  # SQLite gives what it puts beside it the same permissions
        with closing(Database(draft)) as database:
            with database.transaction():
                database.put("run_id", uuid.uuid4().hex)
                database.put("initial_digest", initial_digest)
                database.put("model_digest", initial_digest)
                database.put("model_sha256", digest(initial))
                database.put("state", "running")
                database.put_score(score)
                for key, value in origin.items():
                    database.put(key, value)
                database.add_clients(experiment.clients)
                for client, kept, own in kept_masks(table, own_masks):
                    database.put_first_mask(client, kept.digest, kept.density)
                    if own:
                        save(mask_file(path, kept.digest), mask_tensors(own), "masks")
                if experiment.evaluation.new_clients:
                    database.put("participants", str(experiment.participants))
                if shared is not None:
                    put_shared_mask(database, shared)
                extra.keep(database)
                record(database, experiment)
                database.put("table", table.to_json())
                database.put("knows_frozen", "true")
            database.gather()
        fault("database-written")
        draft.replace(path / "run.db")
        fault("database-renamed")
        sync_folder(path)
        fault("setup-synced")

    def model_path(self, round_: int) -> Path:
        """Return where the global model after a round is, without what is frozen; 0: θ_0, with it."""
        return self.path / model_file(round_)

    def global_model(self, round_: int) -> dict[str, Tensor]:
        """Return the global model after a round, mapped from its file; what is frozen, from θ_0's."""
        return self.with_frozen(self.of_model(open_file(self.model_path(round_))))

    def of_model(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a model without what its file holds of the strategy's own tensors."""
        return {name: tensor for name, tensor in tensors.items() if name in self.model_table.model}

    def with_frozen(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a model of this run whole: with what is frozen, mapped from θ_0's file.

        Raises:
            PayloadError: θ_0 lacks it.
        """
        if not (frozen := {spec.name for spec in self.model_table.frozen}):
            return tensors
        initial = open_file(self.model_path(0))
        if missing := frozen - initial.keys():
            raise PayloadError(f"{model_file(0)}: {min(missing)}: missing, expected what is frozen")
        return tensors | {name: initial[name] for name in sorted(frozen)}

    def tensor_path(self, name: FileName) -> Path:
        """Return where a model or result is that run.db names.

        Raises:
            PayloadError: it is not a name of the run's own making.
        """
        return tensor_file(self.path, name)

    @property
    def shared_mask(self) -> KeptMask:
        """What all clients start under, where the strategy has it so."""
        return KeptMask(Digest(self.database.get("shared_mask")), float(self.database.get("shared_density", "1")))

    def mask_path(self, mask_digest: Digest) -> Path:
        """Return where the mask with this digest is kept.

        Raises:
            PayloadError: it is not a digest.
        """
        return mask_file(self.path, mask_digest)

    def blob_path(self, digest: str) -> Path | None:
        """Return the file with this content that workers may ask for: θ_0, the global model or a mask."""
        if digest == self.initial_digest:
            return self.model_path(0)
        if digest == self.model_digest:
            return self.model_path(self.model_round)
        if not is_digest(digest):
            return None
        path = self.mask_path(digest)
        return path if path.exists() else None

    def save_masks(self, masks: Masks, mask_digest: Digest) -> None:
        """Keep masks under their digest, for `settle_masks`; empty masks (a dense client) need no file."""
        if masks:
            self._mask_files.keep(masks, mask_digest)

    def settle_masks(self, mask_digest: Digest, *, counts: bool) -> None:
        """Drop the masks that `save_masks` kept of what does not count after all, unless the run needs them.

        Args:
            mask_digest: theirs; '' where there were none.
            counts: what had them counts, on disk.
        """
        if mask_digest:
            needed = counts or needs_mask(self.database, mask_digest)
            self._mask_files.settle(mask_digest, needed=needed)

    def drop_masks(self, digests: Iterable[Digest]) -> None:
        """Delete those of some masks that the run does not need."""
        for each in digests:
            if each and not needs_mask(self.database, each):
                self._mask_files.drop(each)

    def load_masks(self, mask_digest: Digest) -> Masks:
        """Return the masks with this digest, mapped from their file; '' is a dense client's."""
        if not mask_digest:
            return {}
        return masks_from_entries(self.table, open_file(self.mask_path(mask_digest)))

    def experiment_for_workers(self) -> str:
        """Return the experiment as JSON, without what is this machine's alone: a task's path becomes its name."""
        return to_json(without_places(self.experiment))

    def tickets_sha256(self) -> Digest:
        """Return one digest over every client's ticket and mask: equal runs have equal tickets."""
        whole = hashlib.sha256()
        for row in self.database.clients():
            whole.update(f"{row.client} {row.mask} ".encode())
            if row.ticket:
                with self.tensor_path(row.ticket).open("rb") as file:
                    hashlib.file_digest(file, lambda: whole)
        return Digest(whole.hexdigest())

    def files_in_use(self) -> set[Path]:
        """Return the files with tensors that the run still needs: θ_0, the global model, tickets, results, masks."""
        files, masks = files_in_use(self.database)
        needed = {self.tensor_path(name) for name in files if is_tensor_file(name)}
        needed |= {self.mask_path(mask) for mask in masks if is_digest(mask)}
        return needed | self.model_files()

    def model_files(self) -> set[Path]:
        """Return the files of models that the run needs: θ_0, the global one, those kept, and the optimizer's."""
        return {self.path / optimizer_file(self.model_round), *map(self.model_path, self.rounds_with_models())}

    def rounds_with_models(self) -> list[int]:
        """Return the rounds whose global models are there, in order; 0: θ_0."""
        best = self.model_round if self.best_round is None else self.best_round
        return sorted({0, best, self.model_round, *kept_models(self.database)})

    def remove(self, paths: Iterable[Path]) -> None:
        """Delete files that the run no longer needs."""
        for path in paths:
            path.unlink(missing_ok=True)

    def leftovers(self) -> set[Path]:
        """Return the files with tensors that nothing refers to: uploads under way, and what a killed process left."""
        found = {path for folder in FOLDERS for path in (self.path / folder).glob("*")}
        return found - self.files_in_use()

    def remove_leftovers(self) -> None:
        """Delete what a process that was killed left behind; not while uploads are under way."""
        self.remove(self.leftovers())


@contextmanager
def inspected(path: Path) -> Iterator[RunDirectory]:
    """Open a run directory to look at, whoever it comes from.

    Raises:
        LotteryFLError: there is no run, or what the block reads of it is damaged.
    """
    with damage_named(path), RunDirectory(path, read_only=True) as run:
        yield run


def cannot_be_written(run: Path, error: OSError | sqlite3.Error) -> LotteryFLError:
    """Return what is said of a run directory that cannot be written."""
    return LotteryFLError(f"{run}: cannot be written: {getattr(error, 'strerror', None) or error}")


def put_shared_mask(database: Database, mask: KeptMask) -> None:
    """Note what all clients start under from now on."""
    database.put("shared_mask", mask.digest)
    database.put("shared_density", repr(mask.density))
