"""What each strategy plans, and what comes of it."""
