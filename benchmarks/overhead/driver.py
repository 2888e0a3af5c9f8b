"""Run the driver of benchmarks/overhead: the real one, with timers around its functions and Ray's and Optuna's.

python -P -m benchmarks.overhead.driver --read-fd N --write-fd M
"""

from __future__ import annotations

import cProfile
import sys

import ray
from optuna import Study
from optuna.trial import Trial as OptunaTrial
from ray.tune.execution.tune_controller import TuneController
from ray.tune.search.search_generator import SearchGenerator

from actors.driver import __main__ as driver
from actors.driver import daemon_link, ray_private
from actors.driver.daemon_link import DaemonLink
from actors.driver.loop_pace import LoopPace
from actors.driver.recorder import Recorder
from actors.driver.scheduler import HardwareAwareScheduler
from actors.driver.search import GatedSearch
from benchmarks.overhead.scenario import Scenario
from benchmarks.overhead.timers import Timers

ASK, TELL = "Optuna: ask and suggest", "Optuna: report and tell"
OURS = "our search, scheduler and recorder"
ENCODE, PIPE = "messages: made into lines", "messages: written to the pipe"
WHERE, WORKER, NAP = "the worker is asked where it is", "Tune waits for the worker", "our naps"
MAKE, LOOP = "Tune makes a trial", "Tune's loop, the rest of it"


def instrument(timers: Timers) -> None:
    """Time the pieces of a trial in this process, and mark each trial's end."""
    timers.wrap(Study, "ask", ASK)
    for name in ("suggest_float", "suggest_int", "suggest_categorical"):
        timers.wrap(OptunaTrial, name, ASK)
    timers.wrap(OptunaTrial, "report", TELL)
    timers.wrap(Study, "tell", TELL)
    for kind, names in (
        (GatedSearch, ("suggest", "on_trial_result", "on_trial_complete")),
        (HardwareAwareScheduler, ("on_trial_add", "on_trial_result", "on_trial_complete", "choose_trial_to_run")),
        (Recorder, ("on_trial_start", "on_trial_result", "on_trial_complete")),
    ):
        for name in names:
            timers.wrap(kind, name, OURS)
    timers.wrap(daemon_link, "encode", ENCODE)
    timers.wrap(DaemonLink, "_write", PIPE)
    timers.wrap(ray_private, "whereabouts", WHERE)
    timers.wrap(LoopPace, "rest", NAP)
    timers.wrap(ray, "wait", WORKER)
    timers.wrap(SearchGenerator, "create_trial_if_possible", MAKE)
    timers.wrap(TuneController, "step", LOOP)
    timers.mark_after(Recorder, "on_trial_complete")


def main() -> int:
    scenario, timers = Scenario.from_environment(), Timers()
    if scenario.timed:
        instrument(timers)
    profile = None if scenario.profile is None else cProfile.Profile()
    if profile is not None:
        profile.enable()
    status = driver.main(sys.argv[1:])
    if profile is not None:
        profile.disable()
        profile.dump_stats(str(scenario.profile))
    scenario.write_marked("driver", timers)
    return status


if __name__ == "__main__":
    driver._exit(main())  # noqa: SLF001 - as the driver itself ends
