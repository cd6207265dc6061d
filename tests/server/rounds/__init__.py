"""Who does what, and what counts."""
