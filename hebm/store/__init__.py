"""The run folder: checkpoints, metrics, manifest, lock."""
