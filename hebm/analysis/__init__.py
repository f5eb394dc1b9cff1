"""Run analyses of a trained run (`hebm analyse`). Each is a plugin that returns a section of the report."""
