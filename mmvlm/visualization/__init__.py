"""Pictures of samples and runs."""
