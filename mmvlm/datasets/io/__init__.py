"""Files: JSON, tables, tar, arrow, pickles without code, columns, rows on disk."""
