"""Grids, curves and the HTML page."""
