"""The dock that segments many slides."""
