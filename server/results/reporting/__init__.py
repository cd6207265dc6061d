"""Reports: what runs came to, in tables and pictures."""
