"""Running containers as objects, which commands and functions enter: `Container`, `attach`."""
