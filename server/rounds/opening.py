"""A round as it is opened: who is drawn, and what each is to do, checked and on record before anybody is told."""

from collections.abc import Iterator, Sequence
from functools import partial

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.clientranges import format_clients
from lotteryfl.common.names import Digest, FileName
from lotteryfl.server.privacy.promise import check_plans
from lotteryfl.server.rounds.codeversion import check_local
from lotteryfl.server.rounds.plancheck import check_rule
from lotteryfl.server.rounds.stacks import stacked
from lotteryfl.server.rounds.workers import WorkerRegistry
from lotteryfl.server.store.keptmask import KeptMask
from lotteryfl.server.store.rundb.history import last_result, last_worker, rounds_of
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support import asked
from lotteryfl.server.strategies.support.drawing import drawing
from lotteryfl.server.strategies.support.tensors import check_sends, names_of_own


class Opening:
    """Opens the rounds of one run, as its strategy has them."""

    def __init__(self, run: RunDirectory, strategy: Strategy, workers: WorkerRegistry) -> None:
        """Set whose rounds are opened.

        Args:
            run: the open run directory.
            strategy: of the run.
            workers: that have registered; looked at for strategies alone that go by who is there.
        """
        self._run = run
        self._database = run.database
        self._strategy = strategy
        self._workers = workers

    def open(self, number: int, now: float, waited: float = 0.0) -> str:
        """Put a round on record with all that is to be done in it; what was seen of who is there comes first.

        A strategy that goes by who is there waits until they hold as many clients as are drawn, or a lease time; where
        nobody is there, for ever.

        Args:
            number: of the round.
            now: the time.
            waited: for how many seconds it has.

        Returns:
            What it waits for, as a sentence; '': it was opened.
        """
        experiment, held = self._run.experiment, None
        if self._strategy.attends and number <= experiment.rounds:
            held = self._workers.held(now - experiment.round.lease, experiment.participants)
            size = self._strategy.sample_size(number)
            if len(held) < size and not (held and waited >= experiment.round.lease):
                wanted = f"workers that hold {size} clients"
                return f"round {number} waits for {wanted}: those that are there hold {len(held)}"
        with self._database.transaction(), drawing(experiment, "round", number):
            new = stacked(self._new_assignments(number, held), experiment.engine.stacked)
            self._database.open_round(number, new, None if held is None else format_clients(held))
        return ""

    def _new_assignments(self, number: int, held: Sequence[int] | None) -> Iterator[AssignmentRow]:
        experiment, strategy = self._run.experiment, self._strategy
        is_final = number > experiment.rounds
        sampled = range(experiment.clients) if is_final else asked.sampled(strategy, number, held)
        measures = experiment.measures_shared(number)
        database = self._database
        shared, shared_mask = model_file(self._run.model_round), self._shared_mask()
        has_own = strategy.owns_unkept or bool(names_of_own(strategy, self._run.table))
        # Set only where it says something: an older worker refuses what it does not know.
        lossless = not (is_final or strategy.trains(number) or self._run.wire.is_lossless)
        # Where the run has been made longer, these stood for the last measuring: an answer to that is stale.
        attempts = database.attempts(-number)
        for client in sampled:
            row = database.client(client)
            plan = asked.planned(strategy, number, self._known_of(client), is_final=is_final)
            check_plans(strategy, (plan,))
            check_rule(strategy, number, client, plan)
            check_local(plan, strategy)
            check_sends(strategy, plan, self._run.table)
            plan.lossless = lossless
            plan.measure_shared = measures and client == sampled[0]
            source = shared if strategy.aggregates else row.ticket or shared
            mask, density = shared_mask or (row.mask, row.density)
            own, attempt = row.ticket if has_own else FileName(""), attempts.get(client, 0)
            yield AssignmentRow(number, client, plan, mask, source, density, own, attempt=attempt, forgiven=attempt)

    def _known_of(self, client: int) -> ClientState:
        database, hides_loss = self._database, self._run.experiment.privacy.hides_loss
        return ClientState(
            client,
            partial(database.densities, client),
            rounds=partial(rounds_of, database, client),
            last=partial(last_result, database, client, hides_loss=hides_loss),
            worker=partial(self._worker_of, client),
        )

    def _worker_of(self, client: int) -> str:
        """Return who served a client last.

        Raises:
            ExperimentError: the strategy does not say that it goes by who is there.
        """
        if not self._strategy.attends:
            raise ExperimentError(
                f"strategy.name = {self._strategy.name!r}: goes by the worker of client {client}, and so its bits by "
                "who is there: expected a class that says attends = True"
            )
        return last_worker(self._database, client)

    def _shared_mask(self) -> KeptMask | None:
        """Return what every client's work begins under; None: each one's own."""
        if self._strategy.starts_under == "own mask":
            return None
        return KeptMask(Digest(""), 1.0) if self._strategy.starts_under == "no mask" else self._run.shared_mask
