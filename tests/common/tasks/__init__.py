"""Data and models of clients."""
