"""A network of somebody else's in use: left as it was, and its output read as a card means it."""
