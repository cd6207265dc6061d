"""Runs that are steered, over real processes."""
