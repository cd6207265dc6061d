"""Open files: connections must leave some for the run directory, or whoever opens enough of them stops the run."""

import resource

_MOST = 1 << 16
"""Open files that are asked for, where the machine allows any number."""


def connection_limit() -> int:
    """Raise this process's limit of open files as far as it may go; return how many of them connections may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST // 2
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted) // 2
