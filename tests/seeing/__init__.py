"""What there is to see of a run, and how it is drawn."""
