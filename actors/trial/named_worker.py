"""Names a trial's worker after its trial, for `ps` and Ray's dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from actors.trial.result_keys import OWN_KEY
from actors.trial.user_class import can_be_reused


def named(trainable: type[tune.Trainable], name_worker: Callable[[str], object]) -> type[tune.Trainable]:
    """Return the supervised class `trainable`, whose worker calls `name_worker` with the trial's name at each step."""
    metaclass: Any = type(trainable)
    made: type[tune.Trainable] = metaclass(
        trainable.__name__, (NamedWorker, trainable), {"sweep_name_worker": staticmethod(name_worker)}
    )
    return made


class NamedWorker(tune.Trainable):
    """Comes before a supervised class."""

    sweep_name_worker: Callable[[str], object] = str
    """Names this process until the present call ends: then Ray names it for the class again."""

    sweep_name: str = ""
    """The trial's name, EXPERIMENT/NUMBER; empty until its set-up begins."""

    def __repr__(self) -> str:
        """Return the actor's name on Ray's dashboard; Ray asks once, and a reused actor has many trials."""
        experiment = self.sweep_name.rpartition("/")[0]
        return (experiment if can_be_reused(type(self)) else self.sweep_name) or super().__repr__()

    def _begin(self, config: dict[str, Any], prepare: Callable[[dict[str, Any]], object]) -> None:
        own = config[OWN_KEY]
        self.sweep_name = f"{own['experiment']}/{own['number']}"
        super()._begin(config, prepare)  # type: ignore[misc]  # SupervisedTrainable's

    def train(self) -> Any:
        """Name the process, then train a step."""
        self.sweep_name_worker(self.sweep_name)
        return super().train()  # type: ignore[no-untyped-call]
