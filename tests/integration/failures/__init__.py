"""What dies, stops, or is refused by a disk."""
