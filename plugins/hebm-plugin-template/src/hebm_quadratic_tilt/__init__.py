"""A plugin for hebm: the prior `quadratic-tilt`."""
