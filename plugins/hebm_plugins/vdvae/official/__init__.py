"""Read and write the checkpoint files of the published VDVAE code."""
