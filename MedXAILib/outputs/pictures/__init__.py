"""Pictures of maps over their volume, drawn by Slicer's own slice logic."""
