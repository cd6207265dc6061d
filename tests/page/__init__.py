"""The page in a browser, beside real runs."""
