"""Files to Volumes and back, each format in a file of its own."""
