"""How results become the next model."""
