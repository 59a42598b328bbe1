"""Chat templates, one family per file."""
