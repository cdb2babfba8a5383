"""Commands in containers, and containers that live."""
