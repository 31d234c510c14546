"""The dock that corrects and inspects a mask."""
