"""Exit codes of the program beside 0 (success), 1 (an error) and 2 (wrong usage)."""

LEFT_OUT = 3
"""A run has finished, and clients were left out of rounds of it."""
DEVICE_GONE = 4
"""A worker's device cannot be used any more by its process: started again it may do."""
INTERRUPTED = 130
"""After Ctrl-C, SIGTERM or SIGHUP, as shells have it."""
