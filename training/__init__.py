"""Trains one trial of the built-in search: market data, PatchTST, training loop. Knows no Ray and no supervisor."""
