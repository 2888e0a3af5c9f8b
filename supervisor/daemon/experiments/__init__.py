"""Runs the experiments of a run: the Ray session, one driver after another, the evaluation of the answer."""
