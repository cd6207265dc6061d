"""Identities and channels."""
