"""Stage the situations in which the tests of exit codes type a verb: a home, its last run, a daemon that answers.

The daemon is this process: it holds the home's lock, and its answers are given in place of the exchange on the socket.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor import home_lock
from supervisor.cli import supervisorctl, supervisord, watch
from supervisor.control import client
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.processes.print_file import print_path
from supervisor.store.run_writer import create_run
from tests.unit.cli.finished_run import finished_run
from tests.unit.cli.show_stage import open_store, two_runs
from tests.unit.cli.status_view import experiment, view

COMMANDS = {"supervisord": supervisord.main, "supervisorctl": supervisorctl.main}
ANSWERS: dict[str, dict[str, Any]] = {
    "pause": {"command": {"scope": "all"}},
    "resume": {"lifted": True, "commands": [], "in_force": {"action": "RUN"}},
    "retry": {"retries": []},
    "finish": {"experiment": "2M-h1", "running": 0, "trials": 1},
    "end": {"trials": []},
    "discard": {"trials": []},
    "skip": {"experiments": []},
    "next": {"experiments": []},
    "set": {"effects": {}, "refused": [], "policy": False, "schedule": None},
    "reread": {"changes": [], "refused": [], "effects": {}, "applied": False},
    "enqueue": {"points": {}},
    "extend": {"max_trials": {}},
    "stop": {"run": "smoke-1", "way_on": "`supervisord start smoke` goes on with it"},
    "shutdown": {"run": "smoke-1", "way_on": "`supervisord start` goes on with it"},
    "drill": {"begun": True},
    "history": {"runs": []},
    "runs": {
        "runs": [
            {"run": "smoke-1", "plan": "smoke", "state": "EXITED", "ended_wall": 0.0, "refusal": None, "newest": True}
        ]
    },
    "remove": {"count": 1, "bytes": 8, "error": None},
}
FACTS = {
    "run": "smoke-1", "pid": 42, "socket": "/s", "log": "/l", "version": "0", "dashboard": None, "now_wall": 0.0,
    "started_wall": 0.0,
}  # fmt: skip

Trouble = Callable[[], tuple[int, dict[str, Any]]]


def not_found() -> tuple[int, dict[str, Any]]:
    return 404, {"error": "there is none", "remedy": None, "exit_code": 2}


def conflict() -> tuple[int, dict[str, Any]]:
    return 409, {"error": "not now", "remedy": None, "exit_code": 1}


def late() -> tuple[int, dict[str, Any]]:
    raise TimeoutError


def from_another(home: Home, version: str | None) -> Trouble:
    """Return an answer of another program, or of a daemon whose API has another `version`."""

    def answer() -> tuple[int, dict[str, Any]]:
        client._check_api(home, version)
        raise AssertionError("it was taken for ours")

    return answer


class Stage:
    """A home in one situation, in which verbs are typed."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.home, self.patch = root, Home((root / "home").resolve()), patch
        self.asked: list[str] = []
        """The verbs that the daemon was asked for."""
        self.trouble: Trouble | None = None
        """Stands for the daemon's answer; it may raise as the exchange does."""
        self._lock: int | None = None
        self._whole: dict[str, Any] = {}
        self.home.root.mkdir()
        patch.chdir(root)
        for name, value in (("SWEEP_HOME", self.home.root), ("HOME", root), ("XDG_CONFIG_HOME", root / "config")):
            patch.setenv(name, str(value))
        patch.setattr(home_lock, "LOCK_POLL_S", 0.0)
        patch.setattr(watch, "WAIT_POLL_S", 0.0)

    def type(self, command: str, *words: str) -> int:
        """Type a command; return its exit code."""
        try:
            return COMMANDS[command](words)
        except SystemExit as end:
            return int(end.code or 0)

    # What is in the home

    def put_run(self) -> None:
        """Put an ended run into the home, with the prints of its trial."""
        finished_run(self.home).close()
        self._whole = watch.last_view(self.home)
        prints = print_path(self.home.run_folder("smoke-1") / "2M-h1" / "0", 1)
        prints.parent.mkdir(parents=True)
        prints.write_bytes(b"epoch 1\n")

    def put_tested_runs(self) -> None:
        """Put two runs of the built-in search into the home, whose first experiment has an answer."""
        two_runs(self.home)
        self._whole = watch.last_view(self.home)

    def put_run_of_a_file(self) -> None:
        """Put a run into the home whose plan's file is there, as it was."""
        file = self.put_plan()
        with closing(open_store(self.home)) as store:
            create_run(
                store, "mine-1", plan="mine", fingerprint="f", source=str(file), plan_text=file.read_text(),
                hardware={}, data={}, specs=[],
            )  # fmt: skip

    def put_plan(self) -> Path:
        """Write a user's plan that needs no data; return its path."""
        file = self.root / "mine.yaml"
        file.write_text(
            "name: mine\ntrainable: mine:objective\nmetric: loss\nmax_trials: 1\nmax_epochs: 1\n"
            "space:\n  x: {type: float, low: 0, high: 1}\n"
        )
        (self.root / "mine.py").write_text("def objective(config):\n    pass\n")
        return file

    # The daemon

    def live(self, trouble: Trouble | None = None) -> None:
        """Let a daemon hold the home and answer, with `trouble` if given."""
        self.hold()
        self.trouble = trouble
        self.patch.setattr(client, "_exchange", self._exchange)

    def hold(self) -> None:
        """Let a daemon hold the home that is not asked by way of this stage."""
        self._lock = take_lock(self.home)

    def end(self) -> None:
        """Free the home, as the daemon's end does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def occupy_socket(self) -> None:
        """Put a file at the socket's place that is no socket of this user."""
        self.home.socket.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.home.socket.write_text("")

    def close(self) -> None:
        self.end()
        shutil.rmtree(self.home.runtime(), ignore_errors=True)

    def _exchange(self, home: Home, request: bytes, end_s: float) -> tuple[int, bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        verb = head.split()[1].decode().split("/")[2].partition("?")[0]
        self.asked.append(verb)
        answer = (200, self._answer(verb, json.loads(body or b"{}"))) if self.trouble is None else self.trouble()
        return answer[0], json.dumps(answer[1]).encode()

    def _answer(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        if verb in ("stop", "shutdown"):
            self.end()
        if verb == "backup":
            shutil.copyfile(self.home.store, body["path"])
            return {"bytes": 1}
        if verb == "run":
            return self._whole
        return self.status() if verb == "status" else ANSWERS[verb]

    def status(self) -> dict[str, Any]:
        """Return the view of a run at work; the second time the run has ended since."""
        if self.asked.count("status") > 1:
            self.end()
        found = view(experiment())
        found["run"]["id"] = "smoke-1"
        found["daemon"] = {**found["daemon"], **FACTS}
        return found
