"""Disturbs a real search by a seeded series of faults and checks every promise."""
