"""Prints no progress of trials: Tune's own printer, which it adds unless one is given, keeps each trial for ever."""

from __future__ import annotations

from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback


class NoProgress(TrialProgressCallback):
    """Takes the place of Tune's printer; at `verbose=0` that prints nothing either."""

    def __init__(self) -> None:
        super().__init__()

    def on_trial_result(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""

    def on_trial_error(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""

    def on_trial_complete(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""
