"""MRML nodes, scene and views: the same code in 3D Slicer and on the wheel slicer-core."""
