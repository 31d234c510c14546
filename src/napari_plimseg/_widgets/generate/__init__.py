"""The dock that segments the open slide."""
