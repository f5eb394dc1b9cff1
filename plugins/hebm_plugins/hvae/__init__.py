"""A convolutional hierarchical VAE."""
