"""Who calls, what comes and what goes: the coordinator over gRPC."""
