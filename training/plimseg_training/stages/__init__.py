"""The stages of PLIMSeg: losses, cams, pseudo masks, the segmentation network."""
