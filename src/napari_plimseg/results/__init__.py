"""Masks on disk, their measures and their exports."""
