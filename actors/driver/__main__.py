"""The process that executes one experiment on Ray: `python -P -m actors.driver --read-fd N --write-fd M`.

It holds no truth: the daemon tells it everything at its start and commits every result. It may be killed at any moment.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import threading
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.driver.trial_registry import TrialRegistry
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import trials_left
from supervisor.domain.messages import (
    Begin,
    Commanded,
    DrillAsked,
    ExperimentEnded,
    Finish,
    ForceAsked,
    Heartbeat,
    Hello,
    Message,
)
from supervisor.errors import SweepError

if TYPE_CHECKING:
    from actors.driver.watchdog_links import WatchdogLinks

HEARTBEAT_S = 2.0
BEGIN_WITHIN_S = 60.0
ACKNOWLEDGE_WITHIN_S = 30.0
NAMESPACE = "sweep"
ORPHANED = 70
"""Exit status when the daemon died: nobody is left to read it, but logs show it."""

VERSIONS_OF = ("ray", "optuna", "torch", "numpy")

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
        self._begin: Begin | None = None
        self._begun = threading.Event()
        self._in_force = CommandsInForce()
        self._watchdogs: WatchdogLinks | None = None
        self._leaving = False

    def on_message(self, message: Message) -> None:
        """In the link's thread."""
        if isinstance(message, Begin):
            self._begin = message
            commands = [Command.from_json(command) for command in message.commands]
            self._in_force.begin(str(message.experiment["name"]), commands)
            self._begun.set()
        elif isinstance(message, Commanded):
            self._in_force.set_operator(Command.from_json(command) for command in message.commands)
            self._tell_watchdogs()
        elif isinstance(message, DrillAsked):
            if self._watchdogs is not None:
                self._watchdogs.start_drill(message.name, message.duration_s, message.node)
        elif isinstance(message, ForceAsked):
            if self._watchdogs is not None:
                self._watchdogs.force(message.node, message.for_s)
        elif isinstance(message, Finish):
            self._in_force.finish_reason = message.reason

    def on_eof(self) -> None:
        """The daemon died. Ray ends the workers of a driver that is gone within a second."""
        os.write(2, b"the daemon's pipe is closed: the driver ends\n")
        os._exit(ORPHANED)

    def run(self) -> bool:
        """Execute the experiment; False when it was told to finish before its end."""
        self.link.send(Hello(os.getpid(), versions()))
        if not self._begun.wait(BEGIN_WITHIN_S) or self._begin is None:
            raise TimeoutError(f"the daemon did not say within {BEGIN_WITHIN_S:g} s what to do")
        begin = self._begin
        registry = TrialRegistry(begin.experiment["metric"], begin.experiment["mode"], begin.trials)
        threading.Thread(target=self._beat, args=(registry,), name="heartbeat", daemon=True).start()
        self._connect(begin)
        self._watch(begin)
        return self._search(begin, registry)

    def _beat(self, registry: TrialRegistry) -> None:
        while True:
            self.link.send(Heartbeat(len(registry.running())))
            time.sleep(HEARTBEAT_S)

    def _connect(self, begin: Begin) -> None:
        os.environ.update(TUNE_ENVIRONMENT)
        import ray

        ray.init(address=begin.ray_address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        # After ray.init, which installs a handler of its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._in_force.finish_reason = signal.Signals(number).name

    def _watch(self, begin: Begin) -> None:
        from actors.driver.watchdog_links import WatchdogLinks

        self._watchdogs = WatchdogLinks(self.link, self._in_force, begin.watchdog)
        self._in_force.on_change(self._end_at_stop)
        self._in_force.leave = self._leave
        self._in_force.tell_watchdogs = self._tell_watchdogs
        self._watchdogs.start()

    def _end_at_stop(self) -> None:
        command = self._in_force.for_new_trials()
        if command.action is Action.STOP and self._in_force.finish_reason is None:
            self._in_force.finish_reason = f"STOP by the {command.origin}: {command.reason}"

    def _tell_watchdogs(self) -> None:
        # What comes later would lift the STOP by which all trials are to leave.
        if self._watchdogs is not None and not self._leaving:
            self._watchdogs.set_operator(*self._in_force.for_watchdogs())

    def _leave(self) -> None:
        """By the flag, since a trial between two batches hears nothing else. The next driver lifts it."""
        self._leaving = True
        if self._watchdogs is not None:
            command = Command(Action.STOP, Origin.OPERATOR, self._in_force.finish_reason or "the driver ends")
            self._watchdogs.set_operator([command], time.monotonic_ns())

    def _search(self, begin: Begin, registry: TrialRegistry) -> bool:
        from actors.driver.scheduler import Finished
        from actors.driver.tuner import fit

        if self._watchdogs is not None and self._in_force.finish_reason is None and any_left(begin):
            try:
                fit(begin, registry, self._in_force, self.link, self._watchdogs.how_died)
            except Finished as finished:
                logging.getLogger("driver").warning("finished early: %s", finished)
        return self._in_force.finish_reason is None


def any_left(begin: Begin) -> bool:
    """Whether a trial is left to run: `max_trials` is a total over all drivers."""
    return trials_left(begin.experiment, begin.trials) > 0


def versions() -> dict[str, str]:
    """Installed versions, without importing anything: torch alone would take 2 s."""
    found = {}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _settle(link: DaemonLink, message: ExperimentEnded | None) -> int:
    if message is not None:
        link.send(message)
    left = link.wait_until_acknowledged(ACKNOWLEDGE_WITHIN_S)
    if left:
        os.write(2, f"the daemon left {left} messages unacknowledged\n".encode())
    return 1 if left or (message is not None and message.error is not None) else 0


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment; the exit status. 0 done or told to finish, 1 failed, 70 the daemon died."""
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
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it was, the daemon must hear of it
        traceback.print_exc()
        # An error of ours has a cure that only a person knows. Anything else may be a moment's trouble of the machine.
        final = isinstance(error, SweepError)
        return _settle(link, ExperimentEnded(f"{type(error).__name__}: {error}"[:4000], final))
    return _settle(link, ExperimentEnded(None) if complete else None)


def _exit(status: int) -> None:
    # Not sys.exit: Ray's exit handlers take seconds to part from a cluster that must outlive this process anyway.
    logging.shutdown()
    os._exit(status)


if __name__ == "__main__":
    _exit(main())
