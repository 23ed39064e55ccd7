"""From a file's voxels to what a network sees, and whether that is of the kind it knows."""
