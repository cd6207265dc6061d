"""How metrics are handed out."""
