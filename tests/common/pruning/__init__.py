"""Masks, and how they come to be."""
