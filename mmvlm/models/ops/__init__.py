"""Operators with several backends, and the attention modules built on them."""
