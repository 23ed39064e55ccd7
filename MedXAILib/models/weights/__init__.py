"""Weights files read without running anything in them, and fitted to a network."""
