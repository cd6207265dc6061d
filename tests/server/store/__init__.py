"""What must not be forgotten."""
