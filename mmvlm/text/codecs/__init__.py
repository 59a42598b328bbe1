"""Grounding codecs: regions to text and back, one syntax per file."""
