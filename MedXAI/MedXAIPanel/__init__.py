"""The sections of the panel, and what they stand on."""
