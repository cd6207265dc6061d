"""How alike tickets are: the share of kept weights that two clients have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lotteryfl.server.results.reporting.style import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lotteryfl.common.packedmasks import Masks  # these two import torch, which the page's process does without
    from lotteryfl.server.results.reporting.data import FloatArray, IntArray

_BLOCK = 1 << 16
"""Bytes of each mask that are compared at a time: what many clients have of it stays in the processor's cache."""
_MOST_CLIENTS = 200
_MOST_LABELLED = 40
"""Clients that have room for their classes to be written beside each."""


class Overlap(NamedTuple):
    """Clients that have a ticket, in the order in which they are shown."""

    clients: "IntArray"
    jaccard: "FloatArray"
    """(clients, clients): see `jaccard`."""

    @property
    def is_of_one_mask(self) -> bool:
        """Whether all clients have the same mask, of which a picture says nothing."""
        return bool((self.jaccard == 1).all())


def jaccard(masks: "Sequence[Masks]") -> "FloatArray":
    """Return for each pair of clients how much their masks overlap, (clients, clients).

    The Jaccard index, or intersection over union: weights that both keep / weights that at least one keeps, over all
    prunable tensors; 1 for equal masks.

    Args:
        masks: packed, by tensor name; all of the same tensors.
    """
    clients = len(masks)
    common = np.zeros((clients, clients), dtype=np.int64)
    for name in masks[0]:
        for start in range(0, masks[0][name].size, _BLOCK):
            pieces = [mask[name][start : start + _BLOCK] for mask in masks]
            words = np.zeros((clients, -(-pieces[0].size // 8) * 8), dtype=np.uint8)
            words[:, : pieces[0].size] = pieces
            rows = words.view(np.uint64)
            for client in range(clients):
                shared = rows[client] & rows[client:]
                common[client, client:] += np.bitwise_count(shared).sum(axis=1, dtype=np.int64)
    common += np.triu(common, 1).T
    kept = common.diagonal()
    union = kept[:, None] + kept[None, :] - common
    index: FloatArray = common / np.maximum(union, 1)
    return index


def measure_overlap(masks: "Sequence[Masks]", order: Sequence[int]) -> Overlap | None:
    """Compare the clients that have a ticket, of very many an even choice; None: fewer than two have one.

    Args:
        masks: by client.
        order: of the clients.
    """
    sparse = [client for client in order if masks[client]]
    if len(sparse) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(sparse) - 1, min(len(sparse), _MOST_CLIENTS)).round().astype(np.int64))
    clients = np.asarray(sparse, dtype=np.int64)[chosen]
    return Overlap(clients, jaccard([masks[client] for client in clients]))


def class_order(counts: "IntArray") -> list[int]:
    """Order clients by the class that they hold most of, then the next, and so on.

    Args:
        counts: (clients, classes) examples.
    """
    return sorted(range(len(counts)), key=lambda client: held_classes(counts[client]))


def held_classes(counts: "IntArray") -> tuple[int, ...]:
    """Return the classes that one client holds, most held first, of equally many the lower."""
    ranked = np.argsort(-counts, kind="stable")
    return tuple(ranked[counts[ranked] > 0].tolist())


def draw_overlap(overlap: Overlap, counts: "IntArray | None", label: str) -> "Figure":
    """Draw the overlap of all pairs.

    Args:
        overlap: of the clients in the order of `class_order`, or any where there are no counts.
        counts: (clients, classes) of all clients; None: not known.
        label: of the run.
    """
    clients = len(overlap.clients)
    figure = new_figure(f"{label}: weights that two clients' tickets have in common", 6.6)
    axes = figure.subplots()
    values = np.ma.masked_array(overlap.jaccard, np.eye(clients, dtype=bool))
    image = axes.imshow(values, cmap="cividis", interpolation="nearest")
    axes.set_facecolor("#dddddd")
    colours = figure.colorbar(image, ax=axes, pad=0.02)
    colours.set_label("kept by both / kept by either", color=INK)
    colours.ax.tick_params(colors=INK, labelsize=9)
    axes.tick_params(colors=INK, labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    if counts is None:
        axes.set_xlabel("client", color=INK)
        axes.set_ylabel("client", color=INK)
    else:
        _label_blocks(axes, [held_classes(counts[client]) for client in overlap.clients])
        axes.set_title(_in_numbers(overlap, counts), fontsize=10, color=INK)
    return figure


def _label_blocks(axes: "Axes", held: Sequence[tuple[int, ...]]) -> None:
    """Draw lines between clients of different main classes, and name the classes."""
    main = np.array([classes[0] for classes in held])
    starts = np.flatnonzero(np.diff(main, prepend=-1))
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color="white", linewidth=1)
        axes.axvline(edge, color="white", linewidth=1)
    if len(held) <= _MOST_LABELLED and max(map(len, held)) <= 3:
        ticks, names = np.arange(len(held)), ["+".join(map(str, classes)) for classes in held]
        what = "classes of the client"
    else:
        ends = np.append(starts[1:], len(held))
        ticks, names = (starts + ends - 1) / 2, [str(label) for label in main[starts]]
        what = "class that the client holds most of"
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, names)
    axes.set_xlabel(what, color=INK)
    axes.set_ylabel(what, color=INK)


def _in_numbers(overlap: Overlap, counts: "IntArray") -> str:
    """Return the mean overlap of pairs that have a class in common, and of those that have none."""
    holds = (counts[overlap.clients] > 0).astype(np.int64)
    in_common = holds @ holds.T
    pairs = np.triu(np.ones_like(in_common, dtype=bool), 1)
    kinds = (("the same classes", _same(holds)), ("one in common", (in_common > 0) & ~_same(holds)))
    found = [(name, overlap.jaccard[pairs & which]) for name, which in (*kinds, ("none in common", in_common == 0))]
    return "mean overlap of pairs with " + ", ".join(
        f"{name}: {values.mean():.2f}" for name, values in found if values.size
    )


def _same(holds: "IntArray") -> np.typing.NDArray[np.bool_]:
    same: np.typing.NDArray[np.bool_] = (holds[:, None] == holds[None]).all(axis=2)
    return same
