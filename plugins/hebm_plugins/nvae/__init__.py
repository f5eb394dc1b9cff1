"""NVAE (arXiv 2007.03898), as published."""
