"""What is said of a map: hot regions, superpixels, structures, caveats; computed once for whoever writes or shows it."""
