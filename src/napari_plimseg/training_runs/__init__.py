"""Trainings that run as processes of their own: started, watched, stopped; no Qt, no torch."""
