"""Every module here registers its classes in MODELS."""
