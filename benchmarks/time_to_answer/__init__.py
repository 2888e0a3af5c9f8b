"""Measures how soon a search has its answer: a sequential loop, plain Ray Tune and this system, on the same problem."""
