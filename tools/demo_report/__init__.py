"""The report of a run of ``demo.py``: results, pictures, curves, one HTML file."""
