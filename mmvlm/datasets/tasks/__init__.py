"""Tasks: annotations of a picture to a conversation about it."""
