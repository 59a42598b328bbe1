"""Use mmvlm from Python."""
