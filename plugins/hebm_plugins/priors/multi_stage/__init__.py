"""The adaptive multi-stage energy-based prior."""
