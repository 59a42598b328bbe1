"""One writer per public format."""
