"""Try a failed experiment again in the same run: its results are not trained again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.errors import Conflict
from supervisor.home import Home
from tests.acceptance.lives import DRIVER, EPOCHS, REQUEST, check_everything, life, state

END_OF_A_TRIAL = "    send(link.TrialEnded("
WORDS = "ModuleNotFoundError: no module named late"
FAILING = DRIVER.replace(
    END_OF_A_TRIAL, f"    send(link.ExperimentEnded({WORDS!r}, final=True))\n    os._exit(1)\n{END_OF_A_TRIAL}"
)


def test_retry_goes_on_with_the_trials_of_a_failed_experiment(home: Home) -> None:
    assert life(home, driver=FAILING)[0] == 1, "an experiment that failed shows in the exit code"
    assert state(home) == "EXITED"
    assert life(home, request=replace(REQUEST, retry=True))[0] == 0
    events = check_everything(home)
    names = [event["event"] for event in events]
    assert names.count("run.created") == 1
    assert names.count("experiment.failed") == 1
    assert names.count("experiment.finished") == 1
    assert names.count("trial.repeated") == 0, "all epochs were kept: the next attempt begins after them"
    assert [event["resumed_step"] for event in events if event["event"] == "trial.started"] == [None, 3, None]


def ending(numbers: str) -> str:
    """Return a driver whose trials of these numbers fail at their end."""
    good = 'send(link.TrialEnded(number, attempt, "finished", 1 / EPOCHS, None, {}))'.replace("EPOCHS", str(EPOCHS))
    bad = 'send(link.TrialEnded(number, attempt, "error", None, "KeyError: ofset", {}))'
    assert good in DRIVER
    return DRIVER.replace(f"    {good}", f"    {bad} if number in {numbers} else {good}")


@pytest.mark.parametrize(("numbers", "failed", "code"), [("(0, 1)", 2, 1), ("(1,)", 1, 3)])
def test_retry_begins_failed_trials_anew_and_says_no_when_nothing_failed(
    home: Home, numbers: str, failed: int, code: int
) -> None:
    """All of them or one of them; nothing of the old error is left, and the log shows both tries."""
    assert life(home, driver=ending(numbers))[0] == code
    assert state(home) == "EXITED"
    assert life(home, request=replace(REQUEST, retry=True))[0] == 0
    events = check_everything(home)
    names = [event["event"] for event in events]
    assert (names.count("trial.failed"), names.count("trial.retried")) == (failed, failed)
    begun = [event["resumed_step"] for event in events if event["event"] == "trial.started"]
    assert begun == [None] * (2 + failed), "from the first epoch: the author may have repaired the code of the others"
    assert life(home, request=replace(REQUEST, retry=True))[0] == Conflict.exit_code
