"""Evaluation of models: the interface of metrics, the images that they receive, and the stored results."""
