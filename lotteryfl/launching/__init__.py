"""Runs on other machines: one launcher for each kind of place, and what they share."""
