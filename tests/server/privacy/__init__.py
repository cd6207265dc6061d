"""What a run promises about its clients, and what that costs."""
