"""The docks: thin Qt over the objects that do the work."""
