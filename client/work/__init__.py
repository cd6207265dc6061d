"""One assignment, from what arrives to what goes back."""
