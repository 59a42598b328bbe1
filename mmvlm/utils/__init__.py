"""Helpers without a home in one part."""
