"""The program above both sides: commands, local runs, comparisons."""
