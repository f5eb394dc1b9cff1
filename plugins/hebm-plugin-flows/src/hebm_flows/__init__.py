"""A plugin for hebm: priors by normalising flows, `flow` and `layer-flow`."""
