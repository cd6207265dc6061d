"""Strategies ranked by their records."""
