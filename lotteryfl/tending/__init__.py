"""What looks after machines and runs: what can go, whether all is well, and what a report of a fault needs."""
