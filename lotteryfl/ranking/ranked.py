"""Strategies ranked over blocks of records: the text, and the figures for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.blocks import Block, By, common_labels
from lotteryfl.ranking.paired import Difference, difference_of_clients
from lotteryfl.ranking.significance import Ranking, rank


@dataclass(frozen=True)
class Ranked:
    """What ranks say, and what clients say."""

    by: By
    blocks: tuple[Block, ...]
    seeds: tuple[tuple[int, ...], ...]
    """Of each block: those that all ranked strategies have."""
    means: dict[str, tuple[float, ...]]
    """By label, the mean over seeds in each block."""
    ranking: Ranking
    to_best: dict[str, tuple[Difference | None, ...]]
    """By label, in each block: personalised, less the best-ranked strategy's; None: records do not tell clients."""
    left_out: tuple[str, ...]
    """Strategies that are not ranked."""
    without: tuple[str, ...]
    """Blocks that do not have all of those that are."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        ranking = self.ranking
        return {
            "by": self.by,
            "alpha": ranking.alpha,
            "friedman": {"chi_squared": ranking.statistic, "p": ranking.p_value},
            "critical_difference": ranking.critical_difference,
            "undecided": ranking.undecided,
            "blocks": [
                {"name": block.name, "seeds": seeds} for block, seeds in zip(self.blocks, self.seeds, strict=True)
            ],
            "strategies": [
                {
                    "label": label,
                    "mean_rank": mean_rank,
                    "means": self.means[label],
                    "personalised_less_the_best_ranked": [each and each.as_json() for each in self.to_best[label]],
                }
                for label, mean_rank in zip(ranking.labels, ranking.mean_ranks, strict=True)
            ],
            "left_out": self.left_out,
            "blocks_left_out": self.without,
        }


def ranked(blocks: Sequence[Block], by: By, labels: Sequence[str] = (), alpha: float = 0.05) -> Ranked:
    """Rank strategies over blocks.

    Args:
        blocks: settings.
        by: which score.
        labels: strategies; blocks that do not have all of them are passed over. None: all that every block has.
        alpha: of the tests.

    Raises:
        LotteryFLError: no block has all of the strategies, or a seed that they share, a score is missing, or there are
            too few strategies.
    """
    chosen = list(dict.fromkeys(labels)) or common_labels(blocks)
    if missing := [label for label in chosen if not any(label in block.runs for block in blocks)]:
        known = dict.fromkeys(label for block in blocks for label in block.runs)
        raise LotteryFLError(f"{missing[0]}: no block has a record of it: expected of {', '.join(known)}")
    without = tuple(block.name for block in blocks if not block.runs.keys() >= set(chosen))
    blocks = [block for block in blocks if block.runs.keys() >= set(chosen)]
    if not blocks:
        raise LotteryFLError(f"{', '.join(chosen)}: no block has records of all of them")
    seeds = [tuple(block.seeds(chosen)) if chosen else () for block in blocks]
    for block, its in zip(blocks, seeds, strict=True):
        if chosen and not its:
            raise LotteryFLError(f"{block.name}: no seed that {', '.join(chosen)} were all run with")
    pairs = list(zip(blocks, seeds, strict=True))
    means = {label: tuple(block.mean(label, its, by) for block, its in pairs) for label in chosen}
    table = [[means[label][at] for label in chosen] for at in range(len(blocks))]
    ranking = rank(chosen, table, [block.score.higher_is_better for block in blocks], alpha)
    best = ranking.labels[0]
    return Ranked(
        by=by,
        blocks=tuple(blocks),
        seeds=tuple(seeds),
        means=means,
        ranking=ranking,
        to_best={label: tuple(_apart(block, its, label, best) for block, its in pairs) for label in chosen},
        without=without,
        left_out=tuple(dict.fromkeys(label for block in blocks for label in block.runs if label not in chosen)),
    )


def text(found: Ranked, style: str, *, differences: bool = True) -> str:
    """Return what was found, for people.

    Args:
        found: the ranks.
        style: as tabulate has it: "simple" or "github".
        differences: with those of the personalised scores, client by client.
    """
    ranking, names = found.ranking, [block.name for block in found.blocks]
    cells = [
        [label, f"{mean_rank:.2f}", *(f"{mean:.3f}" for mean in found.means[label])]
        for label, mean_rank in zip(ranking.labels, ranking.mean_ranks, strict=True)
    ]
    headers = [found.by.replace("_", " "), "mean rank", *names]
    parts = [_table(cells, headers, style), "\n".join(_sentences(found))]
    best, others = ranking.labels[0], ranking.labels[1:]
    if differences and any(each for label in others for each in found.to_best[label]):
        cells = [[label, *(str(each or "–") for each in found.to_best[label])] for label in others]
        headers = [f"personalised, less {best}'s", *names]
        parts += [_table(cells, headers, style), "Mean over clients, with the 95 % interval of a paired bootstrap."]
    return "\n\n".join(parts)


def _sentences(found: Ranked) -> list[str]:
    ranking = found.ranking
    p_value = "p < 0.001" if ranking.p_value < 0.001 else f"p = {ranking.p_value:.3f}"
    blocks = f"{ranking.blocks} block{'s'[: ranking.blocks != 1]}"
    tested = f"Friedman over {blocks}: χ² = {ranking.statistic:.2f}, {p_value}"
    said = [f"{tested}; Nemenyi's critical difference at α = {ranking.alpha:g} is {ranking.critical_difference:.2f}."]
    if ranking.undecided:
        said.append(f"Not decidable: {ranking.undecided}.")
    else:
        best = ranking.labels[0]
        worse = [label for label in ranking.labels if ranking.differ(best, label)]
        equal = [label for label in ranking.labels[1:] if label not in worse]
        said.append(f"{best} is better than {', '.join(worse) or 'nobody'}.")
        if equal:
            said.append(f"Not decidable against {', '.join(equal)}.")
    if found.left_out:
        said.append(f"Not ranked: {', '.join(found.left_out)}.")
    if found.without:
        said.append(f"Passed over, without records of all that are ranked: {', '.join(found.without)}.")
    return said


def _table(cells: Sequence[Sequence[str]], headers: Sequence[str], style: str) -> str:
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(cells, headers, tablefmt=style, colalign=alignment, disable_numparse=True)


def _apart(block: Block, seeds: Sequence[int], label: str, best: str) -> Difference | None:
    if label == best:
        return None
    return difference_of_clients(block.of_clients(label, seeds), block.of_clients(best, seeds))
