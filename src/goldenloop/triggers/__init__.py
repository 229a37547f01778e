"""Deciding that a run is due."""
