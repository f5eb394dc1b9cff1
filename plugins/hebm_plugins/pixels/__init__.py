"""Distributions p(x|z) that several backbones share."""
