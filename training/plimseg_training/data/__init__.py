"""Folders of tagged images, read and checked."""
