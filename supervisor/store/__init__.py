"""Keeps the SQLite truth: schema, events, writers, the projection and every query."""
