"""The commands of the training package, one module each."""
