"""Where models come from: what is recognised, described and loaded."""
