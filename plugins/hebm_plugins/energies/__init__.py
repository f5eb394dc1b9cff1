"""Energies that come with hebm."""
