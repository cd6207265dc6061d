"""The strategies of one comparison beside its first, client by client."""

from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from lotteryfl.ranking.paired import Difference, difference_of_clients
from lotteryfl.server.results.reporting.groups import Group


def apart_from_first(groups: Sequence[Group]) -> dict[str, Difference]:
    """Return by label what a group's personalised scores are, less the first group's.

    Every client counts with its mean over the group's seeds; those that both groups have measured in the last round
    count. A group that has no client in common with the first, or was not run with its seeds, is left out.
    """
    first, others = groups[0], groups[1:]
    its = _by_client(first)
    found = {}
    for group in others:
        apart = difference_of_clients(_by_client(group), its)
        if apart and _seeds(group) == _seeds(first):
            found[group.label] = apart
    return found


def differences_table(apart: Mapping[str, Difference], first: str, style: str) -> str:
    """Return the table of all differences; '' where there is none."""
    cells = [[label, str(each)] for label, each in apart.items()]
    header = f"personalised, less {first}'s: mean over clients, 95 % interval"
    return tabulate(cells, ["", header], tablefmt=style, disable_numparse=True) if cells else ""


def _seeds(group: Group) -> list[int]:
    return sorted(run.experiment.seed for run in group.runs)


def _by_client(group: Group) -> dict[int, float]:
    scores = [{client.client: client.score_personalised for client in run.clients} for run in group.runs]
    return {at: float(np.mean([each[at] for each in scores])) for at in sorted(set.intersection(*map(set, scores)))}
