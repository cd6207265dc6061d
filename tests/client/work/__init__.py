"""What a worker does with an assignment."""
