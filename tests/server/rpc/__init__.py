"""Who calls, what comes and goes."""
