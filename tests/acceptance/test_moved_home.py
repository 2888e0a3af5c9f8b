"""A home that was moved, or restored from a backup, goes on: another folder, another host name, fewer cores."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.home import Home
from supervisor.store import queries
from supervisor.store.database import read_only
from tests.acceptance.conftest import BIN, Sweep
from tests.acceptance.test_interrupted import PLAN
from tests.waits import NET_S

SMALL = PLAN.replace("max_trials: 7", "max_trials: 3").replace("concurrency: 1", "concurrency: 2")
AS_ROOT_ON_LINUX = sys.platform == "linux" and os.geteuid() == 0


@dataclass
class Elsewhere(Sweep):
    """The commands on a machine of another name, as far as this one lets us pretend."""

    def _call(self, program: str, arguments: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        renamed = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"] if AS_ROOT_ON_LINUX else []
        return subprocess.run(
            [*renamed, str(BIN / program), *arguments], env=self.environment, cwd=self.folder, capture_output=True,
            text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Let this process and its children use a single core; macOS has no such call."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Sweep, Sweep]]:
    (tmp_path / "bits.yaml").write_text(SMALL)
    here, there = (kind(Home((tmp_path / name).resolve()), tmp_path)
                   for kind, name in ((Sweep, "here"), (Elsewhere, "there")))  # fmt: skip
    try:
        yield here, there
    finally:
        here.end()
        there.end()


def results(home: Home) -> dict[tuple[int, int], Any]:
    """Return the value of each result, by trial and epoch."""
    with read_only(home.store) as connection:
        run = queries.run_named(connection, None)
        (experiment,) = queries.run_snapshot(connection, run)["experiments"]
    return {(trial["number"], step): value for trial in experiment["trials"] for step, value, _ in trial["results"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_moved_home_with_a_store_from_a_backup_goes_on_from_its_checkpoints(
    places: tuple[Sweep, Sweep], tmp_path: Path
) -> None:
    here, there = places
    started = here.d("start", str(tmp_path / "bits.yaml"))
    assert started.returncode == 0, started.stderr
    here.until("a result", lambda view: any(trial["results"] for trial in view["experiments"][0]["trials"]))
    assert here.ctl("backup", str(tmp_path / "copy.db")).returncode == 0
    here.until("more results, a trial at work", lambda view: _results(view) >= 3 and view["experiments"][0]["running"])
    assert here.ctl("shutdown").returncode == 0
    before = results(here.home)

    here.home.root.rename(there.home.root)
    for left in there.home.state.glob("sweep.db*"):
        left.unlink()
    shutil.copy(tmp_path / "copy.db", there.home.store)

    with one_core():
        started = there.d("start")
        assert started.returncode == 0, started.stderr
        ended = there.ctl("wait", timeout=2 * NET_S)
    assert ended.returncode == 0, ended.stderr
    after = results(there.home)
    assert before.items() <= after.items(), "no result was lost or counted again with another value"
    audit = there.ctl("audit")
    assert audit.returncode == 0, audit.stdout
    resumed = [event["resumed_step"] for event in there.events("bits") if event["event"] == "trial.started"]
    assert any(step is not None for step in resumed), "a trial went on from its checkpoint"
    assert not here.home.root.exists(), "nothing looks for the old place"


def _results(view: dict[str, Any]) -> int:
    return sum(len(trial["results"]) for trial in view["experiments"][0]["trials"])
