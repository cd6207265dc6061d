"""Text of others in pictures: what workers, layers and folders are called is drawn as it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_it_is(figure: "Figure") -> "Figure":
    """Let no text of a finished figure be read as TeX, where a name with two $ would be a formula or an error."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
    return figure


def as_label(name: str) -> str:
    """Return a name as the label of a line: matplotlib leaves those that begin with _ out of the legend."""
    return f" {name}" if name.startswith("_") else name
