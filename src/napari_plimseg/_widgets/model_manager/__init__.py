"""The dock that lists, downloads and imports models."""
