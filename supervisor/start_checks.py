"""What `start` looks at before it starts anything: preflight's checks, put together for one plan and one home."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor import preflight
from supervisor.clock import Clock
from supervisor.estimate import available_memory_bytes, usable_cores
from supervisor.home import Home
from supervisor.plan import ExperimentSpec, Plan
from supervisor.policy import Policy
from supervisor.preflight import Check


def run_checks(home: Home, plan: Plan, specs: Sequence[ExperimentSpec]) -> list[Check]:
    """Every check, in the order in which a person would ask."""
    policy = Policy.from_mapping(plan.policy)
    return [
        preflight.check_python(),
        *preflight.check_libraries(),
        preflight.check_user(),
        preflight.check_clock(Clock().wall_s()),
        *(preflight.check_folder(folder.name, folder) for folder in (home.state, home.runs, home.logs)),
        preflight.check_disk(home.runs, policy.disk_hold_bytes, policy.disk_pause_bytes),
        preflight.check_memory(available_memory_bytes()),
        preflight.check_cores(specs, usable_cores()),
        preflight.check_data(plan.data, home.data),
    ]
