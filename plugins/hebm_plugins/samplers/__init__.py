"""Samplers that come with hebm."""
