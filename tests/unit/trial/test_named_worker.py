"""A trial's worker bears the trial's name: the process at each step, the actor once."""

from __future__ import annotations

from typing import Any

import pytest
from ray import tune

from actors.trial.named_worker import NamedWorker, named
from actors.trial.result_keys import OWN_KEY
from actors.trial.user_class import USER


class Supervised(tune.Trainable):
    """Stands in for a supervised class: its trial begins with `_begin`."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config, lambda _: None)

    def _begin(self, config: dict[str, Any], prepare: Any) -> None:
        prepare(config)

    def step(self) -> dict[str, Any]:
        return {"done": True}


class Reusable(Supervised):
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config, lambda _: None)
        return True


def config(number: int) -> dict[str, Any]:
    return {OWN_KEY: {"experiment": "2M-h1", "number": number}}


@pytest.mark.parametrize(("user", "shown"), [(Supervised, "2M-h1/17"), (Reusable, "2M-h1")])
def test_the_process_has_the_trials_name_at_each_step(user: type[tune.Trainable], shown: str) -> None:
    names: list[str] = []
    made = named(type("Made", (user,), {USER: user}), names.append)
    trial = made(config(17))
    assert repr(trial) == shown, "an actor that is reused has the experiment's name"
    trial.train()
    trial.reset_config(config(18))
    trial.train()
    assert names == ["2M-h1/17", "2M-h1/18" if user is Reusable else "2M-h1/17"]


def test_before_its_setup_a_trial_has_a_name_of_its_class() -> None:
    made = named(type("Made", (Supervised,), {USER: Supervised}), str)
    assert "Made" in repr(made.__new__(made))
    assert issubclass(made, NamedWorker)
