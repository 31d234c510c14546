"""The stages of PLIMSeg: losses, CAMs, pseudo masks and the segmentation network."""
