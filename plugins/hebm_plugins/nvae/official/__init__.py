"""The checkpoint format of the published NVAE code, read and written."""
