"""Models that give class maps: zero-shot from words, CAM and segmentation networks."""
