"""What a process says of its work: logs, spans, and how long its stages take."""
