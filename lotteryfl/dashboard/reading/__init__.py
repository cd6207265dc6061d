"""What the page shows, read out of a run directory."""
