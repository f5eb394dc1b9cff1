"""First-party hvae."""
