"""Figures of maps: measures, each with the level of chance beside it."""
