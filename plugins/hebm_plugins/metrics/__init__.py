"""Metrics that come with hebm."""
