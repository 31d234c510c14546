"""Smart select: objects from points and boxes."""
