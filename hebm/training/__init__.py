"""Training: phases, optimisers and the loop."""
