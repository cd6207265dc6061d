"""A cluster under faults, and over thousands of rounds."""
