"""Images of samples and runs."""
