"""Runs on hosts that ssh reaches: the coordinator here, workers there, and no open port but ssh's."""
