"""Chooses a trial's device, and hides how CPU, CUDA and Metal differ."""
