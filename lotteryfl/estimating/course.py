"""A run's rounds one after the other without any work: who takes part, under which density, and what that moves."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from lotteryfl.common.pruning.step import weights_to_prune
from lotteryfl.estimating.measure import Measured
from lotteryfl.estimating.sizes import Sizes
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.support.asked import planned, sampled
from lotteryfl.server.strategies.support.drawing import drawing
from lotteryfl.server.strategies.support.returned import returns_models
from lotteryfl.server.strategies.support.tensors import names_of_own


@dataclass
class Course:
    """What a run moves and holds."""

    bytes_down: int = 0
    """Where a worker that serves several clients may be sent the whole model once a round, as few workers do."""
    bytes_down_apart: int = 0
    """As if every client had a machine of its own, as `simulate` counts."""
    bytes_up: int = 0
    clients_of_rounds: list[int] = field(default_factory=list)
    """How many take part in each round, the last measuring included."""
    density: float = 1.0
    """Mean of the clients' at the end."""
    files_at_end: int = 0
    """Bytes of tickets and masks."""
    files_at_peak: int = 0
    """The same when a round's results lie beside the tickets that they replace."""

    @property
    def assignments(self) -> int:
        """How many there are in all."""
        return sum(self.clients_of_rounds)


def course(measured: Measured, sizes: Sizes, workers: int, *, prunes: bool) -> Course:
    """Go through a run's rounds: the strategy's own samples and plans, with densities as the plans make them.

    Args:
        measured: the run, and what one assignment of it has shown.
        sizes: of its payloads.
        workers: how many there are.
        prunes: every client is good enough to prune whenever its plan lets it; else none ever is.

    Raises:
        ExperimentError: the strategy's answers cannot be used.
    """
    return _Walk(measured, sizes, workers, prunes=prunes).walked()


class _Walk:
    def __init__(self, measured: Measured, sizes: Sizes, workers: int, *, prunes: bool) -> None:
        self._measured, self._sizes, self._workers, self._prunes = measured, sizes, workers, prunes
        self._run, self._strategy = measured.run, measured.strategy
        self._density = {row.client: row.density for row in self._run.database.clients()}
        self._shared = self._run.shared_mask.density
        self._trained = False
        self._history: defaultdict[int, list[float]] = defaultdict(list)
        self._rounds: defaultdict[int, list[int]] = defaultdict(list)
        self._tickets: dict[int, int] = {}
        self._plans: dict[tuple[int, float, int], pb.Plan] = {}
        self._has_own = self._strategy.owns_unkept or bool(names_of_own(self._strategy, self._run.table))
        self._scales = self._as_measured()

    def walked(self) -> Course:
        found, rounds = Course(), self._run.experiment.rounds
        found.bytes_down = self._workers * self._run.model_path(0).stat().st_size
        for round_ in range(1, rounds + 2):
            self._do(found, round_, is_final=round_ > rounds)
        found.density = sum(self._density.values()) / len(self._density)
        found.files_at_end = self._held()
        return found

    def _do(self, found: Course, round_: int, *, is_final: bool) -> None:
        clients = range(self._run.experiment.clients) if is_final else self._sampled(round_)
        trains = is_final or self._strategy.trains(round_)
        results: dict[int, int] = {}
        ends: dict[int, float] = {}
        apart = 0
        for client in clients:
            before = self._begins_under(client)
            plan = self._plan(round_, client, before, is_final=is_final)
            after = self._after(plan, before)
            down, up = self._sizes.down(before, plan), self._sizes.up(before, after, plan)
            apart += round(down * self._scales["down"])
            results[client] = round(up * self._scales["up"])
            ends[client] = after
            self._history[client].append(after)
            self._rounds[client].append(round_)
        found.clients_of_rounds.append(len(results))
        found.bytes_up += sum(results.values())
        found.bytes_down_apart += apart
        whole = self._broadcast()
        found.bytes_down += apart if whole is None else min(apart, whole)
        found.files_at_peak = max(found.files_at_peak, self._held() + sum(results.values()) + self._new_masks(ends))
        if trains:
            self._trained = True
            if is_final or returns_models(self._strategy, round_):
                self._tickets |= results
                self._density |= ends
        else:
            self._shared = self._run.experiment.strategy.target_density

    def _broadcast(self) -> int | None:
        """Return the bytes of the whole model for every worker, but for θ_0, which all have; None: none gets it."""
        if not (self._run.experiment.round.broadcasts and self._strategy.aggregates) or self._has_own:
            return None
        return self._workers * self._run.table.lasting.nbytes if self._trained else 0

    def _held(self) -> int:
        """Return the bytes of all tickets and masks."""
        return sum(self._tickets.values()) + self._masks_of(self._density)

    def _new_masks(self, ends: Mapping[int, float]) -> int:
        """Return the bytes of the masks that a round's results come with."""
        return self._masks_of({client: end for client, end in ends.items() if end != self._density[client]})

    def _masks_of(self, density: Mapping[int, float]) -> int:
        if self._strategy.starts_under in ("shared mask", "sent mask"):
            return self._sizes.mask(self._shared)  # nearly all are under the same
        return sum(map(self._sizes.mask, density.values()))

    def _sampled(self, round_: int) -> list[int]:
        experiment, strategy = self._run.experiment, self._strategy
        everybody = range(experiment.participants) if strategy.attends else None
        with drawing(experiment, "round", round_):
            return sampled(strategy, round_, everybody)

    def _begins_under(self, client: int) -> float:
        under = self._strategy.starts_under
        return self._density[client] if under == "own mask" else 1.0 if under == "no mask" else self._shared

    def _plan(self, round_: int, client: int, before: float, *, is_final: bool) -> pb.Plan:
        """Return the plan of a client, which those have too that have come as far."""
        key = (round_, before, len(self._history[client]))
        if key not in self._plans:
            state = ClientState(
                client,
                lambda: self._history[client],
                rounds=lambda: self._rounds[client],
            )
            with drawing(self._run.experiment, "round", round_):
                plan = planned(self._strategy, round_, state, is_final=is_final)
            plan.lossless = not (is_final or self._strategy.trains(round_) or self._run.wire.is_lossless)
            self._plans[key] = plan
        return self._plans[key]

    def _after(self, plan: pb.Plan, before: float) -> float:
        """Return the density that a client's work under a plan comes to."""
        if plan.HasField("free_mask"):
            return plan.free_mask.density or self._measured.density_after
        if plan.HasField("select"):
            return max(1 - plan.select.limit, before - plan.select.rate)
        if plan.HasField("prune") and self._prunes:
            left = round(before * self._sizes.prunable)
            return (left - weights_to_prune(plan.prune, self._sizes.prunable, left)) / self._sizes.prunable
        return before

    def _as_measured(self) -> dict[str, float]:
        """Return by how much the measured assignment's payloads were larger than what is counted for such a one."""
        measured = self._measured
        plan = self._plan(1, measured.client, measured.density_before, is_final=False)
        down = self._sizes.down(measured.density_before, plan)
        up = self._sizes.up(measured.density_before, measured.density_after, plan)
        return {"down": measured.bytes_down / down, "up": measured.bytes_up / up}
