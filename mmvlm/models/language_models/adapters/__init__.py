"""Modules inside a language model, one kind per file."""
