"""The commands of the program, a file each, imported when called."""
