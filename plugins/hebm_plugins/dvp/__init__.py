"""DVP-VAE's backbone: a ladder of latents whose priors all see one pseudo-input (arXiv 2412.01373)."""
