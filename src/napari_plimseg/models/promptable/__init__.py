"""Promptable models (WSI-SAM): segment one object from points and boxes."""
