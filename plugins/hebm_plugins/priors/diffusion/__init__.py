"""The diffusion-learned energy-based prior (arXiv 2405.13910)."""
