"""Methods of attribution, and what they see of a network: tensors and their spacing, never a tile's place or a file."""
