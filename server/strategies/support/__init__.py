"""What strategies share, and how they are asked."""
