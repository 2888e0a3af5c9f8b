"""Reads the sensors of the machine, by one provider per source."""
