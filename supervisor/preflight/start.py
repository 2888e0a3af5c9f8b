"""Checks one plan on this machine, for `supervisord start` and `supervisord check`.

Errors stop a start; warnings are only printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.home import Home
from supervisor.plan.dataset import DatasetChoice
from supervisor.plan.expansion import ExperimentSpec
from supervisor.plan.schema import Plan
from supervisor.preflight import machine
from supervisor.preflight.checkpoint_space import check_checkpoint_space, policy_of
from supervisor.preflight.estimate import estimate, planned
from supervisor.preflight.hours import check_hours
from supervisor.preflight.machine import Check, Level, machine_memory_bytes, ok, usable_cores
from supervisor.preflight.step_times import TimedStep
from supervisor.preflight.surroundings import check_schedule
from supervisor.processes import wake_lock
from supervisor.processes.environment import overwritten, passed_environment, ray_environment
from supervisor.processes.ray_head import DASHBOARD_PORT, free_port, usual_port
from supervisor.sensors.reading import Availability

PROBE_DEADLINE_S = 60.0
AT_START_S = 20.0
"""The longest that a start waits for the accelerator; loading torch takes 2 to 5 s."""
KILLED_WITHIN_S = 2.0

_PROBE = """
import json, torch
found = ["cuda"] if torch.cuda.is_available() else ["mps"] if torch.backends.mps.is_available() else []
for device in found:
    (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
print(json.dumps({"devices": found, "torch": torch.__version__}))
"""


def run_checks(
    home: Home,
    plan: Plan,
    specs: Sequence[ExperimentSpec],
    chosen: DatasetChoice | None,
    timed: Sequence[TimedStep] = (),
) -> list[Check]:
    """Run every check that can stop a start, by the steps that were `timed`. Takes a second or two; changes nothing."""
    policy = Policy.from_mapping(policy_of(plan, specs))
    specs = planned(specs, usable_cores(), machine_memory_bytes())
    return [
        machine.check_python(),
        *machine.check_libraries(),
        machine.check_user(),
        machine.check_clock(Clock().wall_s()),
        *(machine.check_folder(folder.name, folder) for folder in (home.state, home.runs, home.logs)),
        machine.check_file_system(home),
        machine.check_disk(home.runs, policy.disk_hold_bytes, policy.disk_pause_bytes),
        check_checkpoint_space(home.runs, specs),
        machine.check_memory(machine.available_memory_bytes()),
        check_largest_trial(specs, machine_memory_bytes(), usable_cores()),
        machine.check_cores(specs, usable_cores()),
        check_hours(specs, usable_cores(), timed),
        *check_gpus(specs),
        machine.check_data(plan.data, home.data),
        *([] if chosen is None else [check_dataset(chosen)]),
        check_port(usual_port(home)),
        *([check_wake_lock()] if plan.wake_lock else []),
        *_check_environment(home, plan),
        *check_schedule(plan),
    ]


def _check_environment(home: Home, plan: Plan) -> list[Check]:
    names = plan.pass_environment
    return [check_environment(names, ray_environment(home, "", home.root, names))] if names else []


def check_largest_trial(specs: Sequence[ExperimentSpec], memory_bytes: int, cores: int) -> Check:
    """Check the plan's trials against this machine's memory; experiments that cannot fit are named."""
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


def check_dataset(chosen: DatasetChoice) -> Check:
    """Check the dataset's file against its manifest."""
    from training.data.manifest import sha256_of

    if sha256_of(Path(chosen.path)) == chosen.sha256:
        return ok("dataset", "; ".join((f"{Path(chosen.path).name} is unchanged", *chosen.doubts)))
    detail = f"{chosen.path} has another SHA-256 than its manifest"
    return Check(
        "dataset", Level.ERROR, detail, f"remove it; the next start builds it again from {chosen.ticker}'s bars"
    )


def check_script(script: str | None) -> Check:
    """Check that the plan's trace or drill can be played."""
    from supervisor.sensors.scripted import ScriptedProvider

    if script is None:
        return ok("sensor script", "none: real sensors")
    try:
        ScriptedProvider.playing(script, Clock())
    except (OSError, ValueError) as error:
        return Check("sensor script", Level.ERROR, str(error), "correct hardware.sensor_script in the plan")
    return Check("sensor script", Level.WARNING, f"{script} plays beside the real sensors", "for drills and tests only")


def check_port(usual: int = DASHBOARD_PORT) -> Check:
    """Check that `usual`, the port of the home's dashboard, is free."""
    if free_port(usual) == usual:
        return ok("ports", f"the dashboard's port {usual} is free")
    detail = f"the dashboard's port {usual} is taken; another one will be used and printed"
    return Check("ports", Level.WARNING, detail, f"free port {usual}, or ask `supervisorctl dashboard` for the address")


def check_wake_lock() -> Check:
    """Take the lock that keeps the machine awake, and release it: only the system knows whether it may be had."""
    taken = asyncio.run(_try_wake_lock())
    if taken.ok:
        return ok("wake lock", taken.reason)
    detail = f"the machine may fall asleep during the run: {taken.reason}"
    return Check("wake lock", Level.WARNING, detail, f"{wake_lock.REMEDY}, or set wake_lock: false in the plan")


async def _try_wake_lock() -> Availability:
    lock = wake_lock.WakeLock()
    try:
        return await lock.take()
    finally:
        await lock.release()


def check_environment(names: Sequence[str], environment: Mapping[str, str]) -> Check:
    """Check that a trial with `environment` gets the values that the variables `names` have here."""
    missing = [name for name in names if name not in os.environ]
    if missing:
        detail = f"the plan passes {', '.join(missing)} on, which is not set here"
        return Check("environment", Level.WARNING, detail, "set it, or take it out of the plan's pass_environment")
    lost = list(overwritten({name: os.environ[name] for name in names}, environment))
    if lost:
        detail = f"the plan passes {', '.join(lost)} on, but the daemon gives its trials a value of its own"
        return Check("environment", Level.ERROR, detail, "take it out of the plan's pass_environment")
    return ok("environment", f"{', '.join(names)} will be passed on")


def check_gpus(specs: Sequence[ExperimentSpec]) -> list[Check]:
    """Check that the Ray head will have the GPUs of the largest trial; without GPUs in the plan there is no check."""
    needed = max((spec.resources.all_gpu for spec in specs), default=0.0)
    if needed == 0.0:
        return []
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "actors.driver.resources"],
            capture_output=True, text=True, timeout=PROBE_DEADLINE_S, check=True, env=passed_environment(),
        )  # fmt: skip
        count = int(answer.stdout.split()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        return [Check("gpus", Level.ERROR, f"Ray cannot count them: {_last_line(error)}", "check the GPU's driver")]
    if needed > count:
        asked = f"a trial needs {needed:g} (resources.gpu, and resources.nested)"
        detail = f"{asked}, and Ray finds {count} here: it would wait for ever"
        remedy = "take the GPUs out of the plan's resources (--set resources.gpu=0); or look at the driver, and at"
        return [Check("gpus", Level.ERROR, detail, f"{remedy} CUDA_VISIBLE_DEVICES")]
    return [ok("gpus", f"{count}, a trial needs up to {needed:g}")]


def _last_line(error: Exception) -> str:
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def check_hardware(plan: Plan, within_s: float = AT_START_S) -> list[Check]:
    """Check accelerator and temperature at once, for a start: an accelerator that is late is only a warning."""
    with ThreadPoolExecutor(1) as beside:
        accelerator = beside.submit(check_accelerator, plan, within_s, Level.WARNING)
        return [check_temperature(), accelerator.result()]


def check_accelerator(plan: Plan, within_s: float = PROBE_DEADLINE_S, late: Level = Level.ERROR) -> Check:
    """Compute on the accelerator in a child process: a broken driver can hang or kill the process.

    `late` is the level of no answer within `within_s`.
    """
    if plan.trainable != "patchtst":
        return ok("accelerator", "not tried: a trainable of your own chooses its device")
    if plan.config.get("device") == "cpu":
        return ok("accelerator", "the plan needs none")
    try:
        devices = json.loads(_probe(within_s))["devices"]
    except subprocess.TimeoutExpired:
        cure = "look at its driver; `supervisord check --accelerator` waits longer"
        return Check("accelerator", late, f"no answer within {within_s:.0f} s", cure)
    except (subprocess.CalledProcessError, ValueError) as error:
        return Check("accelerator", Level.ERROR, f"it does not compute: {_last_line(error)}", "check its driver")
    if devices:
        return ok("accelerator", f"{devices[0]} computes")
    return Check("accelerator", Level.WARNING, "none: trials run on the CPU", "large budgets want a GPU")


def _probe(within_s: float) -> str:
    """Return what the probe prints. Raises TimeoutExpired after `within_s`, CalledProcessError when it fails."""
    command = [sys.executable, "-P", "-c", _PROBE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # subprocess.run would wait for ever for a process that a broken driver keeps in the kernel.
            process.communicate(timeout=KILLED_WITHIN_S)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return output


def check_temperature() -> Check:
    """Check that a temperature can be read; without one the run is UNPROTECTED."""
    from supervisor.sensors import survey

    return temperature_of(survey.collect())


def temperature_of(found: Mapping[str, Any]) -> Check:
    """Return the check of the temperatures in `found`, what `survey.collect` returned."""
    hottest = max(
        (r["value"] for r in found["readings"] if r["kind"] == "temperature" and r["value"] is not None), default=None
    )
    if hottest is not None:
        return ok("temperature", f"{hottest:.0f} C is the hottest now")
    reasons = "; ".join(f"{p['name']}: {p['reason']}" for p in found["providers"] if not p["ok"])
    remedies = "; ".join(dict.fromkeys(p["remedy"] for p in found["providers"] if not p["ok"] and p["remedy"]))
    return Check("temperature", Level.WARNING, f"UNPROTECTED, none can be read: {reasons}", remedies or None)
