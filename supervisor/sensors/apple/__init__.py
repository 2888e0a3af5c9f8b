"""Reads the temperatures of Apple silicon: SMC and HID natively, or by macmon."""
