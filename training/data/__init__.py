"""Turns a file of daily bars into a data set: reads, checks, computes features, splits, seals."""
