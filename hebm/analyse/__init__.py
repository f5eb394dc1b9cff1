"""`hebm analyse`: what plugins look into, each of them a section of the report."""
