"""Analyses that come with hebm."""
