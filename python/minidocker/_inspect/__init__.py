"""What a container is, seen from the host and from inside; what `run` would do."""
