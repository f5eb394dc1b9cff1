"""Many runs from one file: planned, started as processes, resumed, and shown as one table."""
