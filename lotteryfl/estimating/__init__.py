"""Estimates: what a run will take, from one assignment of it that is really done."""
