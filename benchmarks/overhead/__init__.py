"""Measures what supervision adds to a trial that does nothing, beside Optuna and Ray Tune, and what it goes to."""
