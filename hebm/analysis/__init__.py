"""`hebm analyse`: analyses of a trained run by plugins, each of which makes a section of the report."""
