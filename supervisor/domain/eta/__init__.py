"""Estimates when a run and its experiments end: a median and an 80 % interval, from what trials have taken so far."""
