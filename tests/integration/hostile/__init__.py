"""Peers that mean harm."""
