"""A lesion planted at a known place in a real head, and the small network that was trained to see it."""
