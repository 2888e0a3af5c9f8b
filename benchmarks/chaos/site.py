"""Set up the place of the chaos test: a home on a small disk, the real commands, the processes to hit.

Only processes with the home's mark are hit or ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.trainable import EPOCHS_BETWEEN
from supervisor.control.client import ask
from supervisor.errors import SweepError
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.processes.environment import OWNER

BIN = Path(sys.executable).parent
PLAN_NAME = "chaos"
DISK_BYTES = 256 * 1024 * 1024
EPOCH_S = 0.6
EVERY_S = (EPOCHS_BETWEEN + 0.5) * EPOCH_S
PARTS = 4
COMMAND_WITHIN_S = 120.0
PLAN = """\
name: {name}
description: many short trials, to be killed
trainable: chaos_trainable:Chain
seed: {seed}
metric: loss
mode: min
matrix: {{part: {parts}}}
config: {{diary: "{folder}/diary", hurry: "{folder}/hurry", epoch_s: {epoch_s}}}
space:
  x: {{type: float, low: -3, high: 3}}
max_trials: {trials}
max_epochs: 6
concurrency: 2
resources: {{cpu: 1}}
sampler: {{kind: tpe, startup_trials: 5}}
pruner: {{kind: asha, grace_period: 2, reduction_factor: 2}}
# Two epochs between two checkpoints: more than one is trained again, and each loss must be the same as before.
checkpoint_every_s: {every_s}
# Faults hit trials at random: a trial that was often hit is not a bad trial.
max_failures: 100
wake_lock: false
# The disk is small, and heat is not the subject: thresholds that a pause can leave at once.
hardware: {{disk_hold_bytes: 2.0e+6, disk_pause_bytes: 1.0e+6, soft_dwell_s: 0, pause_dwell_s: 0, hold_min_s: 0,
  ease_after_s: 0.1, min_off_s: 0, memory_shed_percent: 97, memory_pause_percent: 98, memory_critical_percent: 99}}
"""


def role_of(name: str, command: Sequence[str]) -> str | None:
    """Name the role of a process: driver, worker, raylet, gcs, guardian, watchdog, dashboard, agent or None."""
    program = Path(command[0]).name if command else name
    title = command[0] if command else ""
    if title.startswith("ray::"):
        what = title.removeprefix("ray::").lower()
        if "/" in what:
            return "worker"  # named after its trial while it trains (actors.trial.named_worker)
        if what.startswith("watchdog"):
            return "watchdog"
        return "agent" if what.endswith("agent") else "worker" if what.startswith("supervised") else None
    if program in ("raylet", "gcs_server"):
        return "gcs" if program == "gcs_server" else "raylet"
    modules = {"actors.driver": "driver", "supervisor.processes.guardian": "guardian"}
    for module, role in modules.items():
        if module in command:
            return role
    return "dashboard" if any(part.endswith("dashboard/dashboard.py") for part in command) else None


def _lives(process: psutil.Process) -> bool:
    # The pid may belong to another process by now: psutil compares the start time.
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@dataclass
class Log:
    """The audit log, read as it grows; events that were read are kept even if the file is lost."""

    path: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _at: int = 0

    def read(self) -> list[dict[str, Any]]:
        """Read the events since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        fresh = [json.loads(line) for line in whole.splitlines()]
        self.events += fresh
        return fresh

    def live_workers(self) -> dict[tuple[str, int], int]:
        """Map experiment and trial of each live attempt to its worker's pid."""
        live: dict[tuple[str, int], int] = {}
        for event in self.events:
            if not event["event"].startswith("trial."):
                continue
            key = (event["experiment"], event["trial"])
            if event["event"] == "trial.started":
                live[key] = event["worker_pid"]
            elif event["event"] in ("trial.requeued", "trial.finished", "trial.failed"):
                live.pop(key, None)
        return live


class Site:
    """The folder, the small disk and the run's processes; the end of its `with` block removes them."""

    def __init__(self, seed: int, trials: int, *, keep: bool) -> None:
        self.keep = keep
        self.folder = Path(tempfile.mkdtemp(prefix="swc", dir="/tmp"))
        self.home = Home((self.folder / "home").resolve())
        self.home.root.mkdir(mode=0o700)
        self.no_disk_reason = self._mount()
        self.plan = self.folder / f"{PLAN_NAME}.yaml"
        parts = list(range(1, PARTS + 1))
        self.plan.write_text(
            PLAN.format(
                name=PLAN_NAME,
                seed=seed,
                parts=parts,
                folder=self.folder,
                epoch_s=EPOCH_S,
                every_s=EVERY_S,
                trials=trials,
            )
        )
        shutil.copy(Path(__file__).with_name("trainable.py"), self.folder / "chaos_trainable.py")
        self._agents: set[psutil.Process] = set()
        self.log = Log(self.home.audit_log(PLAN_NAME))

    def _mount(self) -> str | None:
        """Mount a small disk for the home; return the reason if that is not possible."""
        if os.geteuid() != 0:
            return "only root can mount a small disk"
        options = f"size={DISK_BYTES},mode=700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.home.root],
            capture_output=True,
            check=False,
            text=True,
        )
        return None if done.returncode == 0 else done.stderr.strip() or "mount failed"

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons():
            daemon.kill()
        orphans.end(self.home.key, grace_s=1.0)
        shutil.rmtree(self.home.runtime(), ignore_errors=True)
        if self.keep:
            self._keep()
            return
        if self.no_disk_reason is None:
            subprocess.run(["umount", "--lazy", self.home.root], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self) -> None:
        """Move the files from the small disk to the real one, and unmount it."""
        if self.no_disk_reason is None:
            shutil.copytree(self.home.root, self.folder / "kept", dirs_exist_ok=True)
            subprocess.run(["umount", "--lazy", self.home.root], check=False)
            self.home.root.rmdir()
            (self.folder / "kept").rename(self.home.root)
        print(f"kept: {self.folder}; SWEEP_HOME={self.home.root} supervisorctl status")

    # Commands

    def command(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("SWEEP_", "NOTIFY_", "RAY_"))
        }
        return subprocess.run(
            [BIN / program, *arguments],
            env={**environment, "SWEEP_HOME": str(self.home.root)}, cwd=self.folder, capture_output=True, text=True,
            timeout=COMMAND_WITHIN_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self) -> dict[str, Any] | None:
        """Ask the daemon for its status; return None without an answer."""
        try:
            return ask(self.home, "status", deadline_s=5.0)
        except SweepError:
            return None

    # Processes

    def processes(self, role: str) -> list[psutil.Process]:
        """List the run's processes of a role, by pid. Children have the daemon's mark, the daemon has not."""
        if role == "daemon":
            return self.daemons()
        if role == "agent":
            return self.agents()
        found = []
        for process in orphans.find(self.home.key):
            with contextlib.suppress(psutil.Error):
                if role_of(process.name(), process.cmdline()) == role:
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def agents(self) -> list[psutil.Process]:
        """List Ray's agents as children of the raylet: they overwrite their environment with its mark."""
        found = []
        for raylet in self.processes("raylet"):
            with contextlib.suppress(psutil.Error):
                found += [child for child in raylet.children() if role_of(child.name(), child.cmdline()) == "agent"]
        self._agents |= set(found)
        return found

    def daemons(self) -> list[psutil.Process]:
        """Find the live daemon of this home by the pid in its lock and its environment."""
        try:
            process = psutil.Process(int(re.findall(r"\d+", self.home.lock.read_text())[0]))
            ours = process.environ().get("SWEEP_HOME") == str(self.home.root)
            return [process] if ours and process.status() != psutil.STATUS_ZOMBIE else []
        except (OSError, ValueError, IndexError, psutil.Error):
            return []

    def workers(self) -> list[psutil.Process]:
        """List the workers of live attempts by the log; without any, all workers."""
        found = []
        for pid in sorted(set(self.log.live_workers().values())):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.environ().get(OWNER) == self.home.key:
                    found.append(process)
        return found or self.processes("worker")

    def left(self, within_s: float) -> list[str]:
        """Wait, then list the remaining processes with the mark and the remaining agents."""
        end = time.monotonic() + within_s
        while (found := [*orphans.find(self.home.key), *filter(_lives, self._agents)]) and time.monotonic() < end:
            time.sleep(0.2)
        names = []
        for process in found:
            with contextlib.suppress(psutil.Error):
                names.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
        return names

    # Disk

    @property
    def filler(self) -> Path:
        return self.home.root / "filler"

    def fill(self) -> None:
        """Fill the disk completely."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)

    def checkpoints(self) -> dict[str, int]:
        """Count the checkpoints by trial's folder."""
        counts: dict[str, int] = {}
        for path in self.home.runs.glob("*/*/*/*"):
            if path.name.startswith(("checkpoint-", ".fresh-")):
                folder = str(path.parent.relative_to(self.home.runs))
                counts[folder] = counts.get(folder, 0) + 1
        return counts
