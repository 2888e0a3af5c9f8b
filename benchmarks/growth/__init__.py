"""Measures what grows with the trials of an experiment: with Ray, and the store and a driver's start alone."""
