"""Small trained networks that come with the library: a model card (JSON) beside each weights file (safetensors)."""
