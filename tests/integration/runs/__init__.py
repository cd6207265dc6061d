"""Whole runs and their bits."""
