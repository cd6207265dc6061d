"""A bundle for a bug report: what a run did, without secrets, places, models or data."""
