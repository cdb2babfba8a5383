"""The plugins of pytest that are combined with containers, and a minimal use of each."""

from support.plugin_matrix import fixtures, reports, running

__all__ = ["CASES"]

CASES = [*running.CASES, *reports.CASES, *fixtures.CASES]
