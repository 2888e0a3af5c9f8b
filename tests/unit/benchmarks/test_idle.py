"""Check how benchmarks/idle turns looks at processes into figures."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.idle.figures import Cost, Look, Memory, cost_of, cost_rows, imported, memory_of, package_rows
from benchmarks.idle.processes import ROLES, look_at, mapped_packages, role

MEMORY = Memory(rss=60 * 2**20, pss=50 * 2**20, uss=40 * 2**20)
seconds = st.floats(0.0, 1e6, allow_nan=False)


@given(begin=seconds, window=st.floats(0.1, 1e4), cpu=seconds, taken=seconds, switches=st.integers(0, 10**9))
def test_the_cost_is_the_difference_of_two_looks(
    begin: float, window: float, cpu: float, taken: float, switches: int
) -> None:
    before, after = Look(begin, cpu, switches), Look(begin + window, cpu + taken, switches + 30)
    cost = cost_of("daemon", before, after, MEMORY)
    passed = after.mono_s - before.mono_s
    assert cost.core_percent == pytest.approx(100.0 * (after.cpu_s - before.cpu_s) / passed)
    assert cost.wakes_per_s == pytest.approx(30 / passed)


def test_two_looks_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="after the first"):
        cost_of("daemon", Look(2.0, 0.0, 0), Look(2.0, 1.0, 0), MEMORY)


def test_an_unknown_number_of_wakes_stays_unknown() -> None:
    assert cost_of("driver", Look(0.0, 0.0, None), Look(1.0, 0.5, None), MEMORY).wakes_per_s is None


def test_a_row_adds_up_the_processes_of_a_role_and_says_whether_the_goal_was_kept() -> None:
    costs = [
        Cost("daemon", 0.15, 2.0, MEMORY), Cost("driver", 0.7, 5.0, MEMORY), Cost("driver", 0.4, 5.0, MEMORY),
        Cost("worker", 3.0, None, Memory(2**20, None, None)),
    ]  # fmt: skip
    assert cost_rows("paused", costs, ("driver", "daemon", "watchdog", "worker")) == [
        ("paused", "driver", "2", "1.10", "1 (missed)", "10.0", "120.0", "100.0", "80.0"),
        ("paused", "daemon", "1", "0.15", "0.2 (kept)", "2.0", "60.0", "50.0", "40.0"),
        ("paused", "worker", "1", "3.00", "-", "?", "1.0", "?", "?"),
    ]


def test_import_times_are_added_up_by_package_without_what_others_take() -> None:
    report = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1500 |       1500 |   pydantic.main\n"
        "import time:       500 |       2000 | pydantic\n"
        "a warning of a library\n"
        "import time:       250 |        250 | supervisor.daemon\n"
    )
    assert imported(report) == {"pydantic": 2.0, "supervisor": 0.25}


def test_a_real_report_of_the_interpreter_is_read() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert imported(done.stderr)["json"] > 0.0


def test_the_packages_of_all_processes_stand_in_one_table_without_our_own() -> None:
    by_process = {"daemon": {"aiohttp": 80.0, "supervisor": 90.0}, "driver": {"ray": 300.0, "torch": None}}
    assert package_rows(by_process, ("supervisor",)) == [
        ("package", "daemon", "driver"), ("ray", "-", "300"), ("aiohttp", "80", "-"), ("torch", "-", "loaded"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("python", ["python", "-P", "-m", "actors.driver", "--read-fd", "3"], "driver"),
        ("python", ["python", "-P", "-m", "supervisor.processes.guardian", "5"], "helpers"),
        ("python", ["python", "-P", "-m", "supervisor.processes.print_pump", "x"], "pump"),
        ("python", ["python", "-P", "-m", "supervisor.sensors.isolation_child", "x:Y"], "sensor"),
        ("ray::watchdog", ["ray::WatchdogActor"], "watchdog"),
        ("ray::idle/3", ["ray::idle/3"], "worker"),
        ("ray::IDLE", ["ray::IDLE"], "Ray"),
        ("raylet", ["/x/raylet", "--y"], "Ray"),
    ],
)
def test_each_process_of_a_run_has_its_role(name: str, command: list[str], expected: str) -> None:
    assert role(name, command) == expected
    assert expected in ROLES


def test_a_look_at_this_process_sees_its_cpu_its_memory_and_its_libraries() -> None:
    process = psutil.Process(os.getpid())
    before = look_at(process)
    sum(number * number for number in range(10**6))
    after = look_at(process)
    assert after.cpu_s >= before.cpu_s > 0.0
    assert memory_of(process).rss > 2**20
    if sys.platform == "linux":
        assert after.switches is not None
        assert "psutil" in mapped_packages(process)
