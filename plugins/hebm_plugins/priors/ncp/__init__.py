"""Noise-contrastive priors."""
