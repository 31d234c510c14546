"""From pixels to class maps."""
