"""VDVAE (arXiv 2011.10650): a deep hierarchy of convolutional layers, from 1×1 maps to the image's resolution."""
