"""First-party priors."""
