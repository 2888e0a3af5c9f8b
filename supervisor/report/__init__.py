"""Turns a snapshot of a run into a page, in a process of its own."""
