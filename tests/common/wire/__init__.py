"""What travels, and how."""
