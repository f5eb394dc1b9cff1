"""Metrics of models: what they see, what they return, how it is stored."""
