"""What `start` looks at before it starts anything, and `supervisord check` shows whole: one plan, one machine.

Errors stop a start; warnings are printed and do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.clock import Clock
from supervisor.filesystem import free_bytes
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.home import Home
from supervisor.plan.dataset import DatasetChoice
from supervisor.plan.experiment import ExperimentSpec
from supervisor.plan.schema import Plan
from supervisor.preflight import machine
from supervisor.preflight.estimate import available_memory_bytes, estimate, machine_memory_bytes, usable_cores
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes import wake_lock
from supervisor.processes.ray_head import DASHBOARD_PORT, free_port

PROBE_DEADLINE_S = 60.0
CHECKPOINT_BYTES_PER_PARAMETER = 12
"""float32 weights and AdamW's two moments; the newest two of each live trial are kept."""
CHECKPOINTS_KEPT = 2

_PROBE = """
import json, torch
found = ["cuda"] if torch.cuda.is_available() else ["mps"] if torch.backends.mps.is_available() else []
for device in found:
    (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
print(json.dumps({"devices": found, "torch": torch.__version__}))
"""


def run_checks(home: Home, plan: Plan, specs: Sequence[ExperimentSpec], chosen: DatasetChoice | None) -> list[Check]:
    """Every check, in the order in which a person would ask. Takes a second or two; changes nothing."""
    policy = Policy.from_mapping(plan.policy)
    return [
        machine.check_python(),
        *machine.check_libraries(),
        machine.check_user(),
        machine.check_clock(Clock().wall_s()),
        *(machine.check_folder(folder.name, folder) for folder in (home.state, home.runs, home.logs)),
        machine.check_file_system(home.state),
        machine.check_disk(home.runs, policy.disk_hold_bytes, policy.disk_pause_bytes),
        check_checkpoint_space(home.runs, specs),
        machine.check_memory(available_memory_bytes()),
        check_largest_trial(specs, machine_memory_bytes(), usable_cores()),
        machine.check_cores(specs, usable_cores()),
        machine.check_data(plan.data, home.data),
        *([] if chosen is None else [check_dataset(chosen)]),
        check_port(),
        *([check_wake_lock()] if plan.wake_lock else []),
        *([check_environment(plan.pass_environment)] if plan.pass_environment else []),
    ]


def run_slow_checks(plan: Plan) -> list[Check]:
    """What takes some seconds more, or does not stop a start: the accelerator, and what temperature can be read."""
    return [check_accelerator(plan), check_temperature()]


def check_largest_trial(specs: Sequence[ExperimentSpec], memory_bytes: int, cores: int) -> Check:
    """The plan's largest trial against this machine's memory; what does not fit is skipped, and told here."""
    figures = [estimate(spec, memory_bytes, cores) for spec in specs]
    known = [row for row in figures if row.smallest_bytes is not None]
    if not known:
        return ok("largest trial", "memory unknown: not a trainable of ours")
    skipped = [row.name for row in known if row.fitting == 0]
    if len(skipped) == len(known):
        detail = f"no experiment fits into {human(memory_bytes)}"
        return Check("largest trial", Level.ERROR, detail, "use a larger machine, or --only a smaller budget")
    if skipped:
        detail = f"{', '.join(skipped)} cannot fit into {human(memory_bytes)} and will be skipped"
        return Check("largest trial", Level.WARNING, detail, "use a larger machine for those")
    largest = max(row.largest_bytes or 0 for row in known)
    return ok(
        "largest trial", f"up to {human(largest)} with its whole batch at once, {human(memory_bytes)} for it here"
    )


def check_checkpoint_space(folder: Path, specs: Sequence[ExperimentSpec]) -> Check:
    """Room for the checkpoints that live trials of the largest budget keep."""
    from training.grid import parse_budget

    needs = [
        CHECKPOINT_BYTES_PER_PARAMETER * CHECKPOINTS_KEPT * spec.concurrency * parse_budget(str(spec.config["budget"]))
        for spec in specs
        if spec.trainable == "patchtst"
    ]
    if not needs:
        return ok("checkpoints", "size unknown: not a trainable of ours")
    free = free_bytes(folder if folder.exists() else folder.parent)
    detail = f"{human(max(needs))} for the checkpoints of the largest trials, {human(free)} free"
    if free < max(needs):
        return Check("checkpoints", Level.WARNING, detail, "free some space before the larger budgets begin")
    return ok("checkpoints", detail)


def check_dataset(chosen: DatasetChoice) -> Check:
    """Whether the dataset's file still is what its manifest says."""
    from training.data.manifest import sha256_of

    if sha256_of(Path(chosen.path)) == chosen.sha256:
        return ok("dataset", f"{Path(chosen.path).name} is as it was built")
    detail = f"{chosen.path} is not what its manifest says"
    return Check(
        "dataset", Level.ERROR, detail, f"remove it; the next start builds it again from {chosen.ticker}'s bars"
    )


def check_script(script: str | None) -> Check:
    """Whether the trace or drill that the plan plays in place of sensors can be played."""
    from supervisor.sensors.scripted import ScriptedProvider

    if script is None:
        return ok("sensor script", "none: real sensors")
    try:
        ScriptedProvider.playing(script, Clock())
    except (OSError, ValueError) as error:
        return Check("sensor script", Level.ERROR, str(error), "correct hardware.sensor_script in the plan")
    return Check("sensor script", Level.WARNING, f"{script} plays beside the real sensors", "for drills and tests only")


def check_port() -> Check:
    port = free_port(DASHBOARD_PORT)
    if port == DASHBOARD_PORT:
        return ok("ports", f"the dashboard's port {DASHBOARD_PORT} is free")
    detail = f"the dashboard's port {DASHBOARD_PORT} is taken; another one will be used and printed"
    return Check("ports", Level.WARNING, detail, f"free port {DASHBOARD_PORT}, or follow the address that start prints")


def check_wake_lock() -> Check:
    if wake_lock.command(os.getpid()) is not None:
        return ok("wake lock", "possible")
    detail = "neither caffeinate nor systemd-inhibit is here: the machine may fall asleep under the run"
    return Check("wake lock", Level.WARNING, detail, "turn sleep off by hand, or set wake_lock: false in the plan")


def check_environment(names: Sequence[str]) -> Check:
    missing = [name for name in names if name not in os.environ]
    if not missing:
        return ok("environment", f"{', '.join(names)} will be passed on")
    detail = f"the plan passes {', '.join(missing)} on, which is not set here"
    return Check("environment", Level.WARNING, detail, "set it, or take it out of the plan's pass_environment")


def check_accelerator(plan: Plan) -> Check:
    """Which accelerator computes, tried in a process of its own: a broken driver can hang or kill the one that asks."""
    if plan.config.get("device") == "cpu" or plan.trainable != "patchtst":
        return ok("accelerator", "the plan asks for none")
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_DEADLINE_S, check=True
        )
        devices = json.loads(answer.stdout)["devices"]
    except subprocess.TimeoutExpired:
        return Check("accelerator", Level.ERROR, f"no answer within {PROBE_DEADLINE_S:.0f} s", "look at its driver")
    except (subprocess.CalledProcessError, ValueError) as error:
        said = getattr(error, "stderr", str(error)).strip().splitlines()[-1:]
        return Check("accelerator", Level.ERROR, f"it is there but does not compute: {said}", "look at its driver")
    if devices:
        return ok("accelerator", f"{devices[0]} computes")
    return Check("accelerator", Level.WARNING, "none: trials run on the CPU", "large budgets want a GPU")


def check_temperature() -> Check:
    """What the watchdog will be able to read; UNPROTECTED is a warning with what would change it."""
    from supervisor.sensors import survey

    found = survey.collect()
    hottest = max(
        (r["value"] for r in found["readings"] if r["kind"] == "temperature" and r["value"] is not None), default=None
    )
    if hottest is not None:
        return ok("temperature", f"{hottest:.0f} C is the hottest now")
    reasons = "; ".join(f"{p['name']}: {p['reason']}" for p in found["providers"] if not p["ok"])
    remedies = "; ".join(dict.fromkeys(p["remedy"] for p in found["providers"] if not p["ok"] and p["remedy"]))
    return Check("temperature", Level.WARNING, f"UNPROTECTED, none can be read: {reasons}", remedies or None)
