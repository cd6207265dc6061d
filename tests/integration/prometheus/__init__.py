"""Metrics of real processes."""
