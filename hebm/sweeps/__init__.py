"""Sweeps: plan many runs from one file, start them as processes or jobs, resume them, and compare them."""
