"""Code of the user's own: found, imported, and compared between machines."""
