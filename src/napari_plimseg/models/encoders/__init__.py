"""Image encoders, vision-only and image-text: their names, cards and networks."""
