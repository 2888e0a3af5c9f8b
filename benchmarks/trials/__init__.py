"""Trials that benchmarks train."""
