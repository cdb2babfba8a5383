"""Run a command, or a Python function, in Linux namespaces of its own."""
