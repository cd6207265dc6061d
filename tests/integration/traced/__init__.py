"""What a run tells while it goes on: its logs and its traces."""
