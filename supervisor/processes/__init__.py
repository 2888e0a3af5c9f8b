"""Starts, guards, identifies and ends child processes, the Ray head among them."""
