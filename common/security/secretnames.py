"""Options of a user's own that are called as secrets are: their values are nobody's who looks at a run."""

import re

_SECRET = re.compile("token|secret|passw|credential|(api|private)[-_]?key", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether a key is called as that of a secret."""
    return _SECRET.search(name) is not None
