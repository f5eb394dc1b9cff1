"""Conditional denoising of each layer given the decoder's feature there."""
