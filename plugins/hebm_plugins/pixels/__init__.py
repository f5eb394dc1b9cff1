"""Distributions of an image that several backbones share."""
