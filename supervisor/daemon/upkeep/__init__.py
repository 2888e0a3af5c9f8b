"""Looks after the daemon itself: disk, logs, crash loops, stalls."""
