"""Orphans are found by the home's key in their environment, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from supervisor.processes import orphans
from supervisor.processes.environment import OWNER, SERVES


@pytest.fixture
def sleeper() -> Iterator[Callable[[str | None], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(key: str | None, script: str = "") -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key != OWNER}
        if key is not None:
            environment[OWNER] = key
        command = [sys.executable, "-c", f"{script}\nprint('up', flush=True)\nimport time; time.sleep(60)"]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_orphans_are_found_by_the_homes_key_and_ended_and_others_stay(
    sleeper: Callable[..., subprocess.Popen[bytes]],
) -> None:
    key = f"test-{os.getpid()}"
    mine, other, without = sleeper(key), sleeper(f"{key}-other"), sleeper(None)
    stubborn = sleeper(key, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert {process.pid for process in orphans.find(key)} == {mine.pid, stubborn.pid}
    ended = orphans.end(key, grace_s=0.3)
    assert {int(text.split()[0]) for text in ended} == {mine.pid, stubborn.pid}
    assert None not in (mine.poll(), stubborn.poll())
    assert (other.poll(), without.poll()) == (None, None)
    assert orphans.end(key) == []


def test_a_process_that_serves_another_is_no_orphan_while_trials_are_at_work(
    sleeper: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no child of any process of the home, and ends by itself; what a dead daemon left is found all the same."""
    key = f"test-{os.getpid()}"
    monkeypatch.setattr(orphans, "_descends_from_us", lambda process: False)
    plain = sleeper(key)
    monkeypatch.setenv(SERVES, "17")
    pump = sleeper(key)
    assert [process.pid for process in orphans.find(key, orphans_only=True)] == [plain.pid]
    assert {process.pid for process in orphans.find(key)} == {plain.pid, pump.pid}


def test_a_process_with_the_homes_key_does_not_find_itself_or_its_parents() -> None:
    """A daemon that was started from a trial's shell must not end itself."""
    script = f"import os; from supervisor.processes import orphans; print(len(orphans.find(os.environ[{OWNER!r}])))"
    environment = os.environ | {OWNER: f"self-{os.getpid()}"}
    inner = [sys.executable, "-c", script]
    outer = [sys.executable, "-c", f"import subprocess; subprocess.run({inner!r}, check=True)"]
    assert subprocess.run(outer, env=environment, capture_output=True, check=True).stdout.strip() == b"0"
