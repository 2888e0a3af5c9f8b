"""Guides the person at the command line: examples, the next command after an error, progress of long work."""
