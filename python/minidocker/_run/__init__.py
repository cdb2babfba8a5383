"""Commands in containers: `run`, `Popen`, `Container`, `attach` and `explain`."""
