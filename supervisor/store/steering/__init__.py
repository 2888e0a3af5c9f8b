"""Records what a person asks to change in a run, one writer a kind, each request in one transaction."""
