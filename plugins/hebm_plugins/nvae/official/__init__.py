"""Read and write the checkpoint format of the published NVAE code."""
