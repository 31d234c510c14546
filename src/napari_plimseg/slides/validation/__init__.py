"""Checks of a file before a C library sees it."""
