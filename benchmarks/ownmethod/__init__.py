"""Own method: the tuning and the comparison of docs/own-method.md."""
