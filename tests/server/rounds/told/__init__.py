"""What people are told of a run that is driven."""
