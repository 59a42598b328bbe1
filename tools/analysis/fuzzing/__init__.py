"""Damaged files for every reader; see ``fuzz_readers.py`` beside this folder."""
