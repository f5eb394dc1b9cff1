"""The run folder: checkpoints, metrics, manifest and lock."""
