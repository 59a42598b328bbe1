"""Every module here registers its classes."""
