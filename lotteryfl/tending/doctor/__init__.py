"""Whether all is well with a machine, and with a run, an experiment or a coordinator: a line for each thing."""
