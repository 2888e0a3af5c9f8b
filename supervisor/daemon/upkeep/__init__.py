"""Looks after the daemon itself: disk, logs, messages to people, crash loops, stalls."""
