"""How much memory work takes, and how much there is."""
