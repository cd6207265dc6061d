"""What a run promises about privacy, the noise that keeps it, and what has been spent of it."""
