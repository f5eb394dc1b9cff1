"""Outputs of commands that are written batch by batch, and gone on with after an interruption."""
