"""Shims placeholder."""


def apply() -> None:
    """Apply all shims."""
