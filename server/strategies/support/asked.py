"""What a strategy is asked, and whether its answers can be used: what cannot is named in one line before it counts."""

import inspect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from operator import index

from torch import Tensor

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.clientranges import format_clients
from lotteryfl.common.text import brief, quoted
from lotteryfl.common.wire.clientresult import ClientResult
from lotteryfl.common.wire.finite import all_finite
from lotteryfl.common.wire.maskrule import RULES
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy


def has_own(strategy: Strategy, hook: str) -> bool:
    """Tell whether a strategy answers by itself what all others leave to the default."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)


def unknown_hook(strategy: type[Strategy]) -> str:
    """Say which public method of a strategy's own nobody would ever call, and what it may have been meant for.

    Args:
        strategy: of the user's own; what it has from classes of other modules is known.

    Returns:
        Nothing, where there is no such method.
    """
    bases = [base for base in strategy.__mro__ if base.__module__ != strategy.__module__]
    hooks = {name for base in bases for name in vars(base) if not name.startswith("_")}
    for name, value in vars(strategy).items():
        is_method = inspect.isroutine(value) or isinstance(value, staticmethod | classmethod)
        if is_method and not name.startswith("_") and name not in hooks:
            (nearest,) = get_close_matches(name, sorted(hooks), n=1, cutoff=0)
            return f"method {name} is no hook: did you mean {nearest}? (what is your own begins with _)"
    return ""


def check_hooks(strategy: Strategy) -> None:
    """Check that what a strategy answers by itself is asked for with its experiment's settings.

    Raises:
        ExperimentError: it is not.
    """
    if strategy.mask_rule not in RULES:
        raise _refused(strategy, f"has mask_rule = {quoted(strategy.mask_rule)}, expected one of {', '.join(RULES)}")
    settings = strategy.experiment.aggregation
    for hook in ("weight", "after_round"):
        if has_own(strategy, hook) and not strategy.aggregates:
            raise _refused(strategy, f"has {hook} and aggregates = False, with which it is never asked")
    if has_own(strategy, "sample_attending") and not strategy.attends:
        raise _refused(strategy, "has sample_attending, which only a class that says attends = True is asked")
    if has_own(strategy, "sample") and strategy.attends and not has_own(strategy, "sample_attending"):
        raise _refused(strategy, "has sample and attends = True, with which sample_attending is asked in its place")
    if not has_own(strategy, "weight"):
        return
    if settings.rule != "mean":
        raise ExperimentError(
            f"aggregation.rule = {settings.rule!r}: strategy.name = {strategy.name!r} weighs clients (weight): "
            "expected 'mean'"
        )
    if settings.weighting != "examples":
        raise ExperimentError(
            f"aggregation.weighting = {settings.weighting!r}: strategy.name = {strategy.name!r} weighs clients itself "
            "(weight): expected it to be left out"
        )


def sampled(strategy: Strategy, round_: int, held: Sequence[int] | None = None) -> list[int]:
    """Return the clients of a round.

    Args:
        strategy: who is asked.
        round_: from 1.
        held: the clients that connected workers hold, of a strategy that goes by them; None: of one that does not.

    Raises:
        ExperimentError: they are none, or not clients that can take part.
    """
    answer = strategy.sample(round_) if held is None else strategy.sample_attending(round_, held)
    try:
        clients = [index(client) for client in answer]
    except TypeError:
        raise _refused(
            strategy, f"sampled {quoted(answer)} for round {round_}, expected a list of clients' numbers"
        ) from None
    if not clients:
        raise _refused(strategy, f"sampled nobody for round {round_}, expected at least one client")
    participants = strategy.experiment.participants
    for client in (max(clients), min(clients)):
        if not 0 <= client < participants:
            raise _refused(
                strategy,
                f"sampled client {client} for round {round_}, expected clients below {participants} with "
                f"evaluation.new_clients = {strategy.experiment.evaluation.new_clients}",
            )
    seen: set[int] = set()
    for client in clients:
        if client in seen:
            raise _refused(strategy, f"sampled client {client} for round {round_} twice")
        seen.add(client)
    if held is not None and (away := seen.difference(held)):
        raise _refused(
            strategy,
            f"sampled client {min(away)} for round {round_}, expected some of those whose data connected workers hold: "
            f"{brief(format_clients(held))}",
        )
    return clients


def planned(strategy: Strategy, round_: int, client: ClientState, *, is_final: bool = False) -> pb.Plan:
    """Return what a client does in a round.

    Args:
        strategy: who is asked.
        round_: from 1.
        client: who does it.
        is_final: the round is the one after the last, in which all are measured.

    Raises:
        ExperimentError: it is no plan, or one that nobody could follow.
    """
    plan = strategy.final_plan(client) if is_final else strategy.plan(round_, client)
    if refusal := _refusal_of(plan):
        hook = "final_plan" if is_final else "plan"
        raise _refused(strategy, f"{hook} for client {client.client} in round {round_} {refusal}")
    return plan


def _refusal_of(plan: pb.Plan) -> str:
    """Say why nobody could follow a plan; '': somebody can."""
    if not isinstance(plan, pb.Plan):
        return f"returned {quoted(plan)}, expected a Plan"
    if not plan.ByteSize():
        return "is empty: there is nothing to do"
    train = plan.train
    if not (train.epochs or train.steps or plan.measure_saliency or plan.HasField("local")):
        return "has train.epochs = 0 and train.steps = 0, expected at least 1 of either"
    if not 0 <= train.lr < math.inf:  # NaN is refused too
        return f"has train.lr = {train.lr}, expected a finite number above 0, or none for the experiment's"
    if not 0 <= train.proximal < math.inf:
        return f"has train.proximal = {train.proximal}, expected a finite number not below 0"
    return ""


def weights(strategy: Strategy, results: Iterable[ClientResult]) -> list[float]:
    """Return how much each result counts in the mean, by its own word: at most 1, whatever was said.

    Numbers are divided by a power of two alone, so that the mean has the bits of the weights as they were said.

    Raises:
        ExperimentError: one is no such weight, or all are 0.
    """
    said: list[float] = []
    for result in results:
        weight = strategy.weight(result)
        if not (isinstance(weight, Real) and 0 <= weight <= sys.float_info.max):  # NaN is refused too
            raise _refused(
                strategy,
                f"weight for client {result.client} in round {result.round} is {quoted(weight)}, expected a finite "
                "number, not below 0",
            )
        said.append(float(weight))
    if not any(said):
        raise _refused(strategy, f"weight is 0 for all {len(said)} clients, expected more than 0 for one of them")
    _, exponent = math.frexp(max(said))
    return [math.ldexp(weight, -exponent) for weight in said]


def after_round(strategy: Strategy, outcome: RoundOutcome) -> dict[str, Tensor]:
    """Return what comes in the place of what a round's results were put together to, by name.

    Raises:
        ExperimentError: it is not for the model's tensors, or there is nothing that it could be in the place of.
    """
    answer = strategy.after_round(outcome)
    what = f"after_round for round {outcome.round}"
    if not isinstance(answer, Mapping):
        raise _refused(strategy, f"{what} returned {quoted(answer)}, expected tensors by name")
    values: dict[str, Tensor] = {}
    for name, value in answer.items():
        if not strategy.trains(outcome.round):
            raise _refused(strategy, f"{what} returned {quoted(name)}, and the round only measures: expected none")
        if not (name in outcome.table and name in outcome.aggregated):
            raise _refused(
                strategy, f"{what} returned {quoted(name)}, expected names of tensors that were put together"
            )
        spec = outcome.table[name]
        if not isinstance(value, Tensor):
            raise _refused(strategy, f"{what}: {name}: {quoted(value)}, expected a tensor")
        if tuple(value.shape) != spec.shape:
            raise _refused(strategy, f"{what}: {name}: shape {list(value.shape)}, expected {list(spec.shape)}")
        if value.dtype != spec.dtype:
            raise _refused(strategy, f"{what}: {name}: {value.dtype}, expected {spec.dtype}")
        if not all_finite([value]):
            raise _refused(strategy, f"{what}: {name}: has values that are not finite")
        values[name] = value.detach().cpu().contiguous()
    return values


def _refused(strategy: Strategy, what: str) -> ExperimentError:
    return ExperimentError(f"strategy.name = {strategy.name!r}: {what}")
