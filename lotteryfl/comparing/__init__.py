"""Comparisons: the same experiment with several strategies and seeds."""
