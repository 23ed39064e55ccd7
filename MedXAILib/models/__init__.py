"""What a network expects and means, and how it is loaded: cards, weights, trust, architectures."""
