"""Answers whether the loss scales with size, for a plan with a budget axis."""
