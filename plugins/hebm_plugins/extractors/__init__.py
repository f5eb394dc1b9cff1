"""Extractors: networks whose features the metrics compare."""
