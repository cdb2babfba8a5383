"""The subcommands: each module has ``main(parsed) -> int``, which returns the exit status."""
