"""Lives the life of a run: recovers, orchestrates its experiments, answers the API, ends."""
