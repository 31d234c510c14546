"""Areas, uncertain regions and comparison with another mask."""
