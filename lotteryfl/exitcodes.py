"""Exit codes of the program beside 0 (success), 2 (wrong usage) and those of errors (`LotteryFLError.exit_code`)."""

LEFT_OUT = 3
"""A run has finished, and clients were left out of rounds of it."""
INTERRUPTED = 130
"""After Ctrl-C, SIGTERM or SIGHUP, as shells have it."""
