"""Measures the seconds of a run in which no trial trains, from the events of its log, and draws them."""
