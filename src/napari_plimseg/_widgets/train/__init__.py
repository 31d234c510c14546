"""The dock that trains a model from tagged images."""
