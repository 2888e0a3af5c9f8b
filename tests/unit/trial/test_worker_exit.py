"""Why a worker is gone, and which process a pid means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.trial.worker_exit import CLAIM_WITHIN_S, MAX_UNCLAIMED, MemoryKills
from supervisor.processes.identity import started_at
from supervisor.sensors.cgroup import kill_count, kill_counter

GROUP, OTHER = Path("/g/memory.events"), Path("/h/memory.events")


def test_a_counters_first_value_is_only_its_start() -> None:
    """Kills of last week explain no death of today."""
    kills = MemoryKills().seen({GROUP: 7}, 0.0)
    assert not kills.claimed(GROUP)[1]
    assert kills.seen({GROUP: 8}, 1.0).claimed(GROUP)[1]


def test_a_kill_explains_one_death_of_its_own_group_and_only_for_a_while() -> None:
    kills = MemoryKills().seen({GROUP: 0, OTHER: 0}, 0.0).seen({GROUP: 1}, 5.0)
    assert not kills.claimed(OTHER)[1]
    kills, first = kills.claimed(GROUP)
    kills, second = kills.claimed(GROUP)
    assert (first, second) == (True, False)
    late = MemoryKills().seen({GROUP: 0}, 0.0).seen({GROUP: 1}, 5.0).seen({GROUP: 1}, 5.1 + CLAIM_WITHIN_S)
    assert not late.claimed(GROUP)[1]


def test_a_group_that_began_anew_counts_nothing() -> None:
    assert not MemoryKills().seen({GROUP: 9}, 0.0).seen({GROUP: 0}, 1.0).claimed(GROUP)[1]


@given(st.lists(st.tuples(st.sampled_from([GROUP, OTHER]), st.integers(0, 3)), max_size=20))
def test_each_kill_explains_at_most_one_death(rises: list[tuple[Path, int]]) -> None:
    kills, counts = MemoryKills().seen({GROUP: 0, OTHER: 0}, 0.0), {GROUP: 0, OTHER: 0}
    for counter, rise in rises:
        counts[counter] += rise
        kills = kills.seen(counts, 1.0)
    for counter, expected in counts.items():
        claims = 0
        while (claim := kills.claimed(counter))[1]:
            kills, claims = claim[0], claims + 1
        assert claims == expected
    assert sum(counts.values()) <= MAX_UNCLAIMED


def test_a_process_counter_is_its_groups_where_that_counts_and_else_the_machines(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cg"
    (proc / "12").mkdir(parents=True)
    (proc / "12" / "cgroup").write_text("0::/jobs\n")
    (proc / "vmstat").write_text("pgfault 3\noom_kill 5\n")
    assert kill_counter(12, proc, root) == proc / "vmstat"
    assert kill_count(proc / "vmstat") == 5
    (root / "jobs").mkdir(parents=True)
    (root / "jobs" / "memory.events").write_text("high 0\noom 2\noom_kill 1\n")
    assert kill_counter(12, proc, root) == root / "jobs" / "memory.events"
    assert kill_count(root / "jobs" / "memory.events") == 1
    assert kill_counter(12, tmp_path, tmp_path) is None


def test_a_process_differs_from_another_of_its_pid_and_a_dead_one_is_none() -> None:
    """A zombie is dead, too."""
    mine = started_at(os.getpid())
    assert mine is not None
    assert started_at(os.getpid()) == mine
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert started_at(child.pid) is not None
    assert started_at(child.pid) != mine
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(child.pid) is None
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
    assert started_at(child.pid) is None


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields(tmp_path: Path) -> None:
    fields = ["S", *map(str, range(4, 22)), "987654", "0"]
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stat").write_text("5 (a) b (c) " + " ".join(fields))
    assert started_at(5, tmp_path) == "987654"
