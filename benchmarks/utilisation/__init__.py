"""Measures how a run uses the cores: CPU time by second and by stage, from samples and from the events of its log."""
