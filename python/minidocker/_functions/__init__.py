"""Python functions in containers."""
