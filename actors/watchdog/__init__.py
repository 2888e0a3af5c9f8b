"""Samples the sensors of one node, governs it and looks for hung trials."""
