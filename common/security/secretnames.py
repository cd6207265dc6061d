"""Options of a user's own that are called as secrets are: their values are nobody's who looks at a run."""

import re
from collections.abc import Mapping
from typing import Any

WORDS = "token|secret|passw|credential|(?:api|private)[-_]?key"
"""What is in the name of one, as a pattern: in upper or lower case."""

_SECRET = re.compile(WORDS, re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether a key is called as that of a secret."""
    return _SECRET.search(name) is not None


def without_values_of_secrets(value: Any) -> Any:
    """Return what a key holds; of a table, and of those in it, what is called as a secret is has no value."""
    if not isinstance(value, Mapping):
        return value
    return {key: "…" if is_secret(key) else without_values_of_secrets(inner) for key, inner in value.items()}
