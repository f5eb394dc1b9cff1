"""A top-down generator with flat latent layers."""
