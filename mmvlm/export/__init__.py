"""Checkpoints out of mmvlm, each verified by reloading."""
