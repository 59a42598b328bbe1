"""The report of a run of ``demo.py``: results, images, curves, one HTML file."""
