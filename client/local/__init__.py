"""Code of a worker's own that works on its clients' data: what it is, and how it comes into a plan's work."""
