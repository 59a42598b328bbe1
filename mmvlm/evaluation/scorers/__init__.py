"""Scorers of answer records: one family of benchmarks per file."""
