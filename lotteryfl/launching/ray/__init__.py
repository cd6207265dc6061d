"""Workers as actors of a Ray cluster that is there already."""
