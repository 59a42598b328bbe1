"""The config doctor, the dry run and their kin."""
