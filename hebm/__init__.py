"""Learned priors of hierarchical latent-variable generators."""

__version__ = "0.1.0"
