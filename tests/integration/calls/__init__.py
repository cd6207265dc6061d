"""What goes between a coordinator and its workers."""
