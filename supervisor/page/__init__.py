"""Serves the live page of a run on loopback, and its figures for Prometheus."""
