"""Draws and losses of every prior, pinned to recorded numbers: see `draws`."""
