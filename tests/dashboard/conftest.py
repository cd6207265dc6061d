"""Processes, experiment files and gates as integration tests have them."""

from tests.integration.conftest import coordinate, gate, start, write

__all__ = ["coordinate", "gate", "start", "write"]
