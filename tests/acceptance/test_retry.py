"""Try a failed experiment again in the same run: its results are not trained again."""

from __future__ import annotations

from dataclasses import replace

from supervisor.home import Home
from tests.acceptance.lives import DRIVER, REQUEST, check_everything, life, state

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
