"""Every reader of others' bytes, under inputs that are nearly valid."""
