"""Who does what, and what counts: decisions, written down before they apply. Knows no network."""
