"""What coordinator and worker share."""
