"""Tiny builders shared by tests and examples."""
