"""From a slide and a model to a mask."""
