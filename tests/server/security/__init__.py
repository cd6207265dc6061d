"""Certificates, tokens, and who may do what."""
