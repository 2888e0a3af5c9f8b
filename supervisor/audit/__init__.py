"""Writes, chains, rotates, checks and repairs the audit log, and rebuilds a store from it."""
