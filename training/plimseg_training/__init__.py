"""Training of PLIMSeg from image-level tags; runs as its own process."""
