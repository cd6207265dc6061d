"""What operators say of a run, and what they have to know of its machine."""
