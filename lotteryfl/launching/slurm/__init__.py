"""Runs as jobs of Slurm: the coordinator in the job, or on the machine that submits it."""
