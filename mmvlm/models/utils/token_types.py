"""Types of tokens, as the official systems number them."""

from __future__ import annotations

PAD, TEXT, IMAGE = 0, 1, 2
