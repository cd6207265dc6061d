"""Real processes and real calls."""
