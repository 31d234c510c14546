"""One class a back end: how each kind of file is read."""
