"""The page's process: what it answers, to whom, and what is new."""
