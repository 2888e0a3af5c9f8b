"""Says what the user's class under a supervised one can do: be reused, keep checkpoints, give results of our own."""

from __future__ import annotations

from typing import Any

from ray import tune

from actors.trial.function_trial import FunctionTrial
from actors.trial.report_values import as_result
from actors.trial.result_keys import END, ERROR, RECORD

USER = "sweep_user"
"""The attribute of a supervised class that names the user's."""


def user_class(trainable: type) -> Any:
    """Return the user's class, or the class of the user's function."""
    return getattr(trainable, USER)


def can_be_reused(trainable: type[tune.Trainable]) -> bool:
    """Return whether a worker may take the next trial: if the class has `reset_config`. 20 ms instead of 2 to 5 s."""
    return bool(user_class(trainable).reset_config is not tune.Trainable.reset_config)


def keeps_checkpoints(trainable: type[tune.Trainable]) -> bool:
    """Return whether trials can leave their work at any batch: if a class has methods to save and to load."""
    user = user_class(trainable)
    return not issubclass(user, FunctionTrial) and (
        user.save_checkpoint is not tune.Trainable.save_checkpoint
        and user.load_checkpoint is not tune.Trainable.load_checkpoint
    )


def own_result(trainable: type, given: Any, metric: str) -> dict[str, Any]:
    """Return what a class of a user's, or of ours, gave as the result of a step, as plain values."""
    kept = (END, ERROR, RECORD) if getattr(user_class(trainable), "sweep_own_keys", False) else ()
    own = {key: given[key] for key in kept if key in given}
    others = {key: given[key] for key in given if key not in own} if own else given
    return as_result(others, metric) | own
