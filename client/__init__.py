"""The worker: fetches assignments, trains, returns tickets."""
