"""What both sides stand on."""
