"""What people are told of a run that is driven: where it stands, and what its workers are at."""
