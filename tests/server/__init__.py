"""The coordinator's rooms."""
