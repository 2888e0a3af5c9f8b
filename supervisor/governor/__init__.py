"""Decides what the hardware allows: readings, policy and state in, a command out; pure."""
