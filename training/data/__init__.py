"""Turns a file of daily bars into a dataset: reads, checks, computes features, splits, seals."""
