"""Measures the memory that the trials of a node need for their dataset."""
