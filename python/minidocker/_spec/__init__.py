"""The request as pure data; it refuses what is wrong on any machine."""
