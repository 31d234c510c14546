"""Trainings in their own processes: start, watch, stop; without Qt and torch."""
