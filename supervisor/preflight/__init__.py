"""Checks whether this machine can run this plan."""
