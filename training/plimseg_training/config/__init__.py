"""Recipes: every key, checked before anything runs."""
