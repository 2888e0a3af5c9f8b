"""Runs the life of a run: the orchestrator and what works beside it."""
