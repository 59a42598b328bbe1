"""Nouns to tokens and back: chat templates, codecs, encoding."""
