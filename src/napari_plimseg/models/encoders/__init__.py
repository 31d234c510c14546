"""Image encoders, with and without texts: what is known, how one is loaded."""
