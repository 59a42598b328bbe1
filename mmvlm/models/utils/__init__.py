"""Helpers of the model code."""
