"""Tensors as bytes, in files and streams."""
