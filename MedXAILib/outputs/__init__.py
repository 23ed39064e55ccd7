"""A run's folder: its layout, its files, its pictures; written whole or not at all."""
