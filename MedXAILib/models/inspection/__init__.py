"""What a network does with places: traced operators, feature cells, layers and the choice among them."""
