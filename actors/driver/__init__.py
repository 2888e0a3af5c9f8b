"""Runs one experiment on Ray: Tuner, scheduler, search and recorder."""
