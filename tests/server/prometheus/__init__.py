"""What Prometheus reads of a coordinator."""
