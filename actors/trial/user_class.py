"""Says what the user's class under a supervised one can do: be reused, keep checkpoints."""

from __future__ import annotations

from typing import Any

from ray import tune

from actors.trial.function_trial import FunctionTrial

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
