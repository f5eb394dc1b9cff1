"""First-party two-layer."""
