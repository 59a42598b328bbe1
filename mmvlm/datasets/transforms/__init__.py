"""Pipeline steps, one idea per file."""
