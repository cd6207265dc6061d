"""What is pruned of a model, in numbers and as a table."""

from dataclasses import dataclass

from tabulate import tabulate


@dataclass(frozen=True)
class PruneRow:
    """What is pruned of one weight tensor."""

    layer: str
    """The module that holds it, as torch prints it."""
    name: str
    """Its plain name in the model: conv1.weight."""
    weight_name: str
    """Its name in the module: weight."""
    total: int
    pruned: int

    @property
    def percent(self) -> float:
        """Pruned share, 0 ... 100."""
        return _percent(self.pruned, self.total)


@dataclass(frozen=True)
class PruneSummary:
    """What is pruned of a model; `str` gives what `prune_fixed_amount` prints."""

    rows: tuple[PruneRow, ...]

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(row.total for row in self.rows)

    @property
    def pruned(self) -> int:
        """Number of those that are pruned."""
        return sum(row.pruned for row in self.rows)

    @property
    def percent(self) -> float:
        """Pruned share of all prunable weights, 0 ... 100."""
        return _percent(self.pruned, self.total)

    @property
    def density(self) -> float:
        """Kept share of all prunable weights, 0 ... 1; 1 where nothing is prunable."""
        return 1 - self.pruned / self.total if self.total else 1.0

    def __str__(self) -> str:
        table = tabulate(
            [
                (row.layer, row.weight_name, f"{row.pruned} / {row.total} ({row.percent:.5f}%)", row.pruned)
                for row in self.rows
            ],
            headers=["Layers", "Weight Name", "Percent Pruned", "Total Pruned"],
        )
        return f"Pruning Summary\n{table}\nPercent Pruned Globally: {self.percent / 100:.2f}"


def _percent(pruned: int, weights: int) -> float:
    return 100 * pruned / weights if weights else 0.0
