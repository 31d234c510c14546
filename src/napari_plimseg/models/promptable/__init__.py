"""Models that find an object from points and boxes (WSI-SAM)."""
