"""The training room: market data, PatchTST and the training loop. It knows no Ray and nothing of the supervisor."""
