"""What looks after machines and runs: clean, doctor, support."""
