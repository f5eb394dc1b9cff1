"""Data sets that come with hebm."""
