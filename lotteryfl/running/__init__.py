"""A whole run on this machine: coordinator and workers as processes, or all in one process."""
