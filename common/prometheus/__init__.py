"""What Prometheus reads at `--metrics`: each metric described once, and how it is handed out."""
