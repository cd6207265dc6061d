"""Compose for real: containers, networks and hosts that an engine here makes."""
