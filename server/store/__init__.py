"""What must not be forgotten: run.db and the files of a run directory."""
