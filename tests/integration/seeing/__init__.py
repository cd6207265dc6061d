"""Looking at runs of real processes, from their directories and from afar."""
