"""The diffusion prior over pseudo-inputs of DVP-VAE (arXiv 2412.01373, after VDM, arXiv 2107.00630)."""
