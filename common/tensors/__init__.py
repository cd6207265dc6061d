"""Tensors as safetensors bytes: written, read, streamed and received without a copy more than needed."""
