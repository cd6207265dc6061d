"""Times of day as run.db writes them, and as the page has them."""

from datetime import datetime


def seconds_of(text: str | None) -> float | None:
    """Return a time of day in seconds since 1970; None: it is not known, or none."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
