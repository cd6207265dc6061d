"""The data sets of the built-in tasks: a file for each, with `load`."""
