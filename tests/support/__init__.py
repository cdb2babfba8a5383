"""Helpers that the tests share; this package has no tests."""
