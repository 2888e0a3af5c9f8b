"""The process that executes one experiment on Ray: `python -P -m actors.driver --read-fd N --write-fd M`.

It keeps no state of its own: the daemon sends it everything at its start and commits every result. It may be killed at
any moment.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.driver.failure_check import FailureCheck
from actors.driver.metric_check import MetricCheck
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import FILLED_IN_BY_TUNE, shortened
from supervisor.domain import messages
from supervisor.domain.command import Command
from supervisor.domain.finalists import trials_left
from supervisor.domain.search_time import SearchTime
from supervisor.domain.trials.begin_parts import whole
from supervisor.errors import PlanError, SweepError, TrialsFailed

if TYPE_CHECKING:
    from actors.driver.watchdog_links import WatchdogLinks

HEARTBEAT_S = 2.0
BEGIN_WITHIN_S = 7 * 86400.0
"""A driver may wait for its turn, while the last trials of an experiment train. The end of its pipe ends it sooner."""
ACKNOWLEDGE_WITHIN_S = 30.0
NAMESPACE = "sweep"
ORPHANED = 70
"""Exit status when the daemon died: only logs show it."""

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # 20 ms a trial; the daemon keeps the results
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a missing metric fails its trial, not the search
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots of itself are never read
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1e9",  # so spelled; a held search looks like a starved one
    "RAY_AIR_NEW_OUTPUT": "0",
}


class Driver:
    """One experiment, from `begin` to its end."""

    def __init__(self, link: DaemonLink) -> None:
        self.link = link
        self._begin: messages.Begin | None = None
        self._before: list[dict[str, Any]] = []
        self._early: messages.Prepare | None = None
        self._called, self._begun = threading.Event(), threading.Event()
        self._joined = False
        self._in_force = CommandsInForce()
        self._watchdogs: WatchdogLinks | None = None
        self._registry: TrialRegistry | None = None

    @property
    def trial_at_work(self) -> int | None:
        """Return the trial of which Tune's thread handled something last; None between two of them."""
        return None if self._registry is None else self._registry.at_work

    def on_message(self, message: messages.Message) -> None:
        """Handle a message of the daemon; called in the link's thread."""
        match message:
            case messages.Prepare() | messages.TrialsBefore() | messages.Begin():
                self._take_call(message)
            case messages.Commanded():
                self._in_force.set_operator(Command.from_json(command) for command in message.commands)
            case messages.TimeLeft():
                self._in_force.search_end.time = SearchTime(**asdict(message))
            case messages.FinishAsked():
                self._in_force.search_end.asked = True
            case messages.SpecChanged() if self._begin is not None:
                self._in_force.search_end.take(message.spec)
                self._in_force.changed_spec = message.spec
                if message.policy is not None:
                    # In the begin, too: the watchdogs may be started later.
                    self._begin.watchdog["policy"] = message.policy
                    if self._watchdogs is not None:
                        self._watchdogs.set_policy(message.policy)
            case messages.TrialsRetried():
                self._in_force.finalisation_held = True
            case messages.Finish():
                self._in_force.finish(message.reason)
            case messages.DrillAsked() if self._watchdogs is not None:
                self._watchdogs.start_drill(message.name, message.duration_s, message.node)
            case messages.ForceAsked() if self._watchdogs is not None:
                self._watchdogs.force(message.node, message.for_s)

    def _take_call(self, message: messages.Prepare | messages.TrialsBefore | messages.Begin) -> None:
        if isinstance(message, messages.TrialsBefore):
            self._before += message.trials
            return
        if isinstance(message, messages.Begin):
            commands = [Command.from_json(command) for command in message.commands]
            self._begin, self._before = whole(self._before, message), []
            self._in_force = CommandsInForce(str(message.experiment["name"]), commands)
            self._in_force.search_end.take(message.experiment)
            self._begun.set()
        else:
            self._early = message
        self._called.set()

    def on_eof(self) -> None:
        """End the driver: the daemon died. Ray ends the workers of a driver that is gone within a second."""
        os.write(2, b"the daemon's pipe is closed: the driver ends\n")
        os._exit(ORPHANED)

    def run(self) -> bool:
        """Execute the experiment; return False when it was asked to finish before its end."""
        self.link.send(messages.Hello())
        threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True).start()
        _import_libraries()
        begin = self._wait_for_turn()
        self._registry = registry = _registry(begin)
        self._join(begin.ray_address)
        self._compare_resources(begin)
        return self._search(begin, registry, self._watch(begin))

    def _wait_for_turn(self) -> messages.Begin:
        """Return the daemon's Begin; before it, prepare for it when the daemon asks for that."""
        self._called.wait(BEGIN_WITHIN_S)
        if self._early is not None:
            self._prepare(self._early)
        if not self._begun.wait(BEGIN_WITHIN_S) or self._begin is None:
            raise TimeoutError(f"the daemon did not send Begin within {BEGIN_WITHIN_S:g} s: look into its log")
        return self._begin

    def _prepare(self, early: messages.Prepare) -> None:
        """Join Ray and start workers. A failure ends this driver without a word: another one comes at its turn."""
        from actors.driver.before_turn import warm_workers

        try:
            self._join(early.ray_address)
            if not self._begun.is_set():
                warm_workers(early.experiment, early.workers)
        except Exception:  # noqa: BLE001 - the daemon does not listen before its turn
            traceback.print_exc()
            _exit(1)

    def _send_heartbeats(self) -> None:
        # Before its turn the daemon does not listen.
        self._begun.wait(BEGIN_WITHIN_S)
        while True:
            self.link.send(messages.Heartbeat())
            time.sleep(HEARTBEAT_S)

    def _join(self, address: str) -> None:
        """Join the Ray whose head has this address, once: a daemon whose head has changed takes another driver."""
        if self._joined:
            return
        import ray

        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        # After ray.init, which installs a handler of its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._in_force.finish(signal.Signals(number).name))
        self._joined = True

    def _compare_resources(self, begin: messages.Begin) -> None:
        from actors.driver.resources import ResourceWatch, of_the_cluster, shares_of

        ResourceWatch(shares_of(begin.experiment["resources"]), of_the_cluster, self.link.send).start()

    def _watch(self, begin: messages.Begin) -> WatchdogLinks:
        from actors.driver.watchdog_links import WatchdogLinks

        self._watchdogs = WatchdogLinks(self.link, self._in_force, begin.watchdog)
        self._watchdogs.start()
        return self._watchdogs

    def _search(self, begin: messages.Begin, registry: TrialRegistry, watchdogs: WatchdogLinks) -> bool:
        from actors.driver.scheduler import Finished
        from actors.driver.tuner import fit

        if self._in_force.finish_reason is None and trials_left(begin.experiment, begin.trials) > 0:
            try:
                fit(begin, registry, self._in_force, self.link, watchdogs)
            except Finished as finished:
                logging.getLogger("driver").warning("finished early: %s", finished)
        if registry.check.problem is not None:
            raise PlanError(registry.check.problem, key="metric")
        if registry.failures.problem is not None:
            raise TrialsFailed(registry.failures.problem, remedy=_after(registry.failures, begin))
        return self._in_force.finish_reason is None


def _import_libraries() -> None:
    """Import what every search needs: some seconds, in which the daemon may still wait for Ray."""
    os.environ.update(TUNE_ENVIRONMENT)
    import actors.driver.before_turn
    import actors.driver.resources
    import actors.driver.tuner
    import actors.trial.patchtst  # noqa: F401 - it loads no torch


def _registry(begin: messages.Begin) -> TrialRegistry:
    spec = begin.experiment
    known = any(value is not None for trial in begin.trials for _, value in trial["results"])
    at_end = spec.get("metric_at") == "end" or spec["metric"] in FILLED_IN_BY_TUNE
    check = MetricCheck(spec["metric"], int(spec["concurrency"]), at_end=at_end, known=known)
    works = any(FailureCheck.shows_work(trial["end_reason"]) for trial in begin.trials)
    failures = FailureCheck(int(spec["concurrency"]), works=works)
    return TrialRegistry(spec["metric"], spec["mode"], begin.trials, check, failures)


def _after(failures: FailureCheck, begin: messages.Begin) -> str:
    name = begin.experiment["name"]
    return f"mend it, then `supervisorctl retry {name}`; `supervisorctl log {name}/{failures.trial}` has its prints"


def _settle(link: DaemonLink, message: messages.ExperimentEnded | None) -> int:
    if message is not None:
        link.send(message)
    left = link.wait_until_acknowledged(ACKNOWLEDGE_WITHIN_S)
    if left:
        os.write(2, f"the daemon left {left} messages unacknowledged\n".encode())
    return 1 if left or (message is not None and message.error is not None) else 0


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment; return the exit status: 0 done or asked to finish, 1 failed, 70 the daemon died."""
    parser = argparse.ArgumentParser(prog="actors.driver", description=__doc__)
    parser.add_argument("--read-fd", type=int, required=True)
    parser.add_argument("--write-fd", type=int, required=True)
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    link = DaemonLink(parsed.read_fd, parsed.write_fd)
    driver = Driver(link)
    link.receive(driver.on_message, driver.on_eof)
    try:
        complete = driver.run()
    except Exception as error:  # noqa: BLE001 - the daemon must get any error
        traceback.print_exc()
        # An error of ours needs a person. Any other may be a passing fault of the machine, and another driver may try.
        final = isinstance(error, SweepError)
        said = error.sentence() if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
        trial = None if final else driver.trial_at_work
        return _settle(link, messages.ExperimentEnded(shortened(said), final, trial))
    return _settle(link, messages.ExperimentEnded(None) if complete else None)


def _exit(status: int) -> None:
    # Not sys.exit: Ray's exit handlers take seconds to leave a cluster that outlives this process anyway.
    logging.shutdown()
    os._exit(status)


if __name__ == "__main__":
    _exit(main())
