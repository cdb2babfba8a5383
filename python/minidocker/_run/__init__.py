"""Commands in containers: `run`, `Popen`, `Container` and `attach`."""
