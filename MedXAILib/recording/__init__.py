"""One pass through a network, and what is kept of it: activations, and the way back to them."""
