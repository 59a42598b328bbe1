"""Batch planners: deterministic, resumable."""
