"""First-party energies."""
