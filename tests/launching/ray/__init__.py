"""Launching on Ray: what is asked of it, and real clusters (`make test-ray`)."""
