"""Inspection: processes and containers in /proc, the plan of `run`, changes in an overlay."""
