"""Runs inside a worker: the supervised trainable, its gate, heartbeat and checkpoints."""
