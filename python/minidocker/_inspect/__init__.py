"""Inspection: processes and containers in /proc, changes in an overlay."""
