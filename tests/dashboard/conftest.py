"""Processes, experiment files and gates as integration tests have them."""

from tests.integration.conftest import gate, start, write

__all__ = ["gate", "start", "write"]
