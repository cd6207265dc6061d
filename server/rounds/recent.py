"""Memory of what was there last, bounded."""


class Recent:
    """The texts that were added last."""

    def __init__(self, most: int) -> None:
        """Set how many are kept."""
        self._most = most
        self._texts: dict[str, None] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def add(self, text: str) -> None:
        """Add one, in the place of the oldest where there are too many."""
        self.discard(text)
        self._texts[text] = None
        if len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]

    def discard(self, text: str) -> None:
        """Take one out, if it is there."""
        self._texts.pop(text, None)
