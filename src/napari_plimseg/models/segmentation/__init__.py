"""Models that segment tissue classes: zero-shot, CAM and segmentation networks."""
