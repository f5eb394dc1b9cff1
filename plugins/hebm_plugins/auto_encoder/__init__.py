"""A user's own VAE with one layer of latents as a backbone."""
