"""Cut off each durable step, by a kill or a failing disk; then start again."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import failpoints
from supervisor.audit import maintenance
from supervisor.clock import Clock
from supervisor.home import Home
from tests.acceptance.lives import KILLED, Setting, begin, check_everything, ended, life, state, until_recorded

CHECKOUT = Path(__file__).resolve().parents[2]

HITS = {
    "store.commit": (1, 2, 5, 8, 11, 14, 17, 20),
    "store.committed": (1, 2, 5, 8, 11, 14, 17, 20),
    "audit.write": (1, 3, 7, 12, 17, 22),
    "audit.sync": (1, 3, 7, 12, 17, 22),
    "audit.written": (1, 3, 7, 12, 17, 22),
    "rotate.shift": (1, 3),
    "ack.send": (1, 2, 5, 9),
}
"""At which of its hits a point is taken; at the first where none is named."""

PREPARED = {"rebuild.rename": "damaged", "rebuild.renamed": "damaged", "reserve.release": "low"}
"""The conditions under which the point can be reached."""

MIDDLE = {
    "store.commit": 11,
    "store.committed": 11,
    "audit.write": 7,
    "audit.sync": 7,
    "audit.written": 7,
    "ack.send": 5,
}
"""The hit that `make test` takes of a point with many; `make test-all` takes them all."""


def cases() -> Iterator[Any]:
    """Yield each point with each of its faults and hits, all but one hit of each marked slow."""
    for point, faults in failpoints.POINTS.items():
        for fault in faults:
            for hit in HITS.get(point, (1,)):
                quick = hit == MIDDLE.get(point, 1)
                yield pytest.param(f"{point}:{hit}:{fault}", marks=[] if quick else pytest.mark.slow)


@pytest.mark.fault(
    "2",
    "killed, disk full or disk broken at any durable step, from the start on",
    "the next start continues; every acknowledged result is there once, the checker finds every promise kept",
)
@pytest.mark.parametrize("case", list(cases()))
def test_after_a_fault_at_any_durable_step_the_next_start_continues_and_nothing_is_lost(home: Home, case: str) -> None:
    point, _, fault = case.split(":")
    prepared = PREPARED.get(point)
    free = [10_000_000, 10_000_000, 500, 10_000_000] if prepared == "low" else None
    if prepared == "damaged":
        assert life(home, "ack.send:5:kill")[0] == KILLED
        for found in home.state.glob("sweep.db-*"):
            found.unlink()  # or SQLite would mend the file from its write-ahead log
        home.store.write_bytes(b"\xff" * 8192)
    code, reached = life(home, case, free)
    assert reached, f"the point was never reached; it ended with {code}"
    if fault == "kill":
        assert code == KILLED
    for _ in range(2):
        if state(home) != "EXITED":
            code, _ = life(home)
    assert state(home) == "EXITED", (home.root / "life.log").read_text()
    # The last event of all may be in the store only, and no other start comes to write it.
    for finding in maintenance.examine(home, Clock()):
        assert re.search("lacks [12] events at its end", finding.what), finding.what
        finding.apply()
    events = [event["event"] for event in check_everything(home)]
    assert events.count("store.rebuilt") == (prepared == "damaged"), "recorded once"


@pytest.mark.fault(
    "35",
    "a commit or a sync fails with EIO",
    "the daemon ends with exit code 1 and tries no second sync; the next start continues from what was kept",
)
@pytest.mark.parametrize("point", ["store.commit", "audit.sync"])
def test_a_disk_that_failed_ends_the_daemon_at_once_and_no_write_is_tried_again(home: Home, point: str) -> None:
    code, reached = life(home, f"{point}:12:eio")
    assert (code, reached) == (1, True)
    assert "ended by" in (home.root / "life.log").read_text()
    assert state(home) in ("RUNNING", "FATAL")
    assert life(home)[0] == 0
    check_everything(home)


def test_a_disk_that_is_full_for_a_while_pauses_the_run_is_told_and_the_same_daemon_ends_it(home: Home) -> None:
    free = [10_000_000] * 12 + [500] * 12 + [10_000_000]
    assert life(home, "", free) == (0, False)
    events = check_everything(home)
    names = [event["event"] for event in events]
    assert "disk.filled" in names or "disk.freed" not in names
    assert names.count("daemon.started") == 1


@pytest.mark.fault(
    "32",
    "the state's disk really fills (a small tmpfs)",
    "the reserve makes room to write the pause; when there is space again the same daemon resumes by itself",
)
def test_on_a_disk_that_really_fills_the_pause_is_written_and_the_run_resumes_by_itself(
    small_disk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_TEST_PAUSE_S", "0.7")
    home = small_disk
    child, reads = begin(home, Setting(free=()))
    try:
        until_recorded(home, "trial.reported")
        with contextlib.suppress(OSError), (home.root / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 65536)
        until_recorded(home, "disk.filled")
        assert not (home.state / "reserve").exists()
        (home.root / "filler").unlink()
        until_recorded(home, "disk.freed")
        assert (home.state / "reserve").exists()
    finally:
        (home.root / "filler").unlink(missing_ok=True)
        code, _ = ended(child, reads)
    assert code == 0, (home.root / "life.log").read_text()
    names = [event["event"] for event in check_everything(home)]
    assert names.count("daemon.started") == 1
    assert names.index("experiment.paused") > names.index("disk.filled") - 2
    assert "experiment.resumed" in names


@pytest.mark.fault(
    "32",
    "the disk is full just when a result is committed",
    "neither committed nor acknowledged until there is space; then it is",
)
def test_a_message_that_meets_a_full_disk_waits_and_is_not_lost(home: Home) -> None:
    assert life(home, "store.commit:12x2:enospc") == (0, True)
    names = [event["event"] for event in check_everything(home)]
    assert names.count("daemon.started") == 1


def test_the_table_of_points_is_what_the_code_has() -> None:
    found = set()
    for path in sorted((CHECKOUT / "supervisor").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.hit":
                found.add(ast.literal_eval(node.args[0]))
    assert found == set(failpoints.POINTS)
    assert set(HITS) | set(PREPARED) <= found


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_points_do_nothing_unless_armed_and_an_unknown_one_is_refused(disarmed: None) -> None:
    for point in failpoints.POINTS:
        failpoints.hit(point)
    assert not failpoints.reached()
    for unknown in ("store.comit:1:kill", "store.committed:1:eio"):
        with pytest.raises(ValueError, match="expected a point and fault"):
            failpoints.arm(unknown)
    failpoints.arm("store.commit:2x2:enospc")
    failpoints.hit("audit.write")
    failpoints.hit("store.commit")
    assert not failpoints.reached()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            failpoints.hit("store.commit")
    failpoints.hit("store.commit")
    assert failpoints.reached()
