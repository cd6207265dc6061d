"""Strategies ranked by their records: over settings by ranks, over clients by pairs; or that it is undecided."""
