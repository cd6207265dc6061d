"""The coordinator: rounds, leases, aggregation and the run directory."""
