"""Tasks: annotations of an image to a conversation about it."""
