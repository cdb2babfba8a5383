"""Commands in containers: `run`, `Popen` and `explain`."""
