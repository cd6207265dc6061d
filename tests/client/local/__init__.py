"""Code of a worker's own: how it is found, and what it does to a training."""
