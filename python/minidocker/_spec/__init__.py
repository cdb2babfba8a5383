"""The request as pure data; it rejects values that are wrong on any machine."""
