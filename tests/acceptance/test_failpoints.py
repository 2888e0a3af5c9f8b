"""Every durable step, cut off by a kill, a full disk or a broken one: the next start goes on, and the checker is happy.

A life of the daemon is a fork of this process: the real Daemon, store, log and socket, a Ray head that is none, and a
driver that plays a story over the real link, keeping a diary of what was acknowledged to it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import audit_checks, audit_evidence, audit_parts, daemon, disk_room, failpoints, repair
from supervisor.audit_log import open_audit_log
from supervisor.audit_parts import Limits
from supervisor.clock import Clock
from supervisor.disk_room import MIB, DiskRoom, RoomLimits
from supervisor.driver_process import DriverProcess
from supervisor.home import Home
from supervisor.readiness import Readiness
from supervisor.request import StartRequest
from supervisor.schema import VERSION
from supervisor.single_instance import take_lock
from supervisor.store import read_only

CHECKOUT = Path(__file__).resolve().parents[2]
TRIALS, EPOCHS = 2, 3
KILLED = -signal.SIGKILL

DRIVER = """
import argparse, hashlib, os, pathlib, time
from supervisor import link

parser = argparse.ArgumentParser()
parser.add_argument("--read-fd", type=int)
parser.add_argument("--write-fd", type=int)
arguments = parser.parse_args()
inbox, outbox = os.fdopen(arguments.read_fd, "rb"), os.fdopen(arguments.write_fd, "wb", 0)
count = 0

def hear():
    line = inbox.readline()
    if not line:
        os._exit(70)
    return link.decode(line)[0]

def keep(path, data, mode="wb"):
    "As a trial does on a full disk: again, until there is space."
    while True:
        try:
            with path.open(mode) as file:
                file.write(data)
            return
        except OSError:
            time.sleep(0.1)

def tell(message):
    global count
    count += 1
    outbox.write(link.encode(message, count))
    while hear() != link.Ack(count):
        pass
    if isinstance(message, link.ResultReported):
        keep(diary, f"{message.number} {message.step}\\n".encode(), "ab")

outbox.write(link.encode(link.Hello(os.getpid(), {})))
begin = hear()
folder = pathlib.Path(begin.folder)
diary = folder / "diary"
known = {trial["number"]: trial for trial in begin.trials}
for number in range(begin.experiment["max_trials"]):
    trial = known.get(number, {"attempt": 0, "end_reason": None, "checkpoint": None})
    if trial["end_reason"] is not None:
        continue
    done = int(trial["checkpoint"].rsplit("-", 1)[1].split(".")[0]) if trial["checkpoint"] else 0
    attempt = trial["attempt"] + 1
    tell(link.TrialAdded(number, {"lr": 0.1}, "sampled"))
    tell(link.TrialStarted(number, attempt, "ray", "node", os.getpid(), done or None))
    for step in range(done + 1, EPOCHS + 1):
        checkpoint = folder / f"{number}-checkpoint-{step}.pt"
        body = b"x" * 100
        time.sleep(float(os.environ.get("SWEEP_TEST_PAUSE_S", 0)))
        keep(checkpoint, body + b"SWEEPCK1" + hashlib.sha256(body).digest())
        tell(link.ResultReported(number, attempt, step, 1 / step, {}, str(checkpoint)))
    tell(link.TrialEnded(number, attempt, "finished", 1 / EPOCHS, None, {}))
tell(link.ExperimentEnded(None))
""".replace("EPOCHS", str(EPOCHS))

SPECS = [{"name": "x", "mode": "min", "max_trials": TRIALS, "concurrency": 1, "max_hours": None, "enqueue": []}]
REQUEST = StartRequest("p", fingerprint="f", plan_text="name: p\n", hardware={"wake_lock": False}, specs=SPECS)


LIMITS = RoomLimits(reserve_bytes=4096, low_bytes=1000, enough_bytes=2000)


class FakeHead:
    def __init__(self, *_: Any) -> None:
        self.address, self.dashboard, self.pid = "127.0.0.1:1", "http://127.0.0.1:2", 3

    async def start(self) -> None:
        """There is no Ray to start."""

    async def exited(self) -> int:
        await asyncio.Event().wait()
        return 0

    async def stop(self) -> None:
        """Nor to stop."""


def live(home: Home, failpoint: str, free: list[int]) -> int:
    """One life in this process, which ends with it.

    `free` is the free space, look by look; the last stays. Empty: the real one.
    """
    failpoints._armed = failpoints._parse(failpoint)

    def free_bytes(folder: Path) -> int:
        if not free:
            return disk_room.free_bytes(folder)
        return free.pop(0) if len(free) > 1 else free[0]

    async def no_report(_: Any) -> None:
        return None

    daemon.RayHead = FakeHead  # type: ignore[misc, assignment]
    daemon.DriverProcess = lambda environment, log: DriverProcess(  # type: ignore[misc, assignment]
        dict(os.environ), log, 20.0, (sys.executable, "-c", DRIVER)
    )
    daemon._skip_reason = lambda spec: None
    daemon.open_audit_log = functools.partial(open_audit_log, limits=Limits(max_bytes=1500, parts=30))
    limits = LIMITS if free else RoomLimits(reserve_bytes=MIB, low_bytes=MIB // 2, enough_bytes=3 * MIB)
    daemon.DiskRoom = lambda folder, clock: DiskRoom(folder, clock, limits, free_bytes)  # type: ignore[misc, assignment]
    daemon.Daemon._report = no_report  # type: ignore[method-assign]
    daemon.leftovers.end = lambda key: []  # type: ignore[assignment]
    home.prepare()
    lock = take_lock(home)
    try:
        return asyncio.run(daemon._serve(home, REQUEST, Readiness(None)))
    except daemon.SweepError as error:
        os.write(2, f"ended by {error.render()}\n".encode())
        return error.exit_code
    except OSError as error:
        os.write(2, f"ended by {error}\n".encode())
        return 1
    finally:
        os.close(lock)


def life(home: Home, failpoint: str = "", free: list[int] | None = None) -> tuple[int, bool]:
    """How it ended (as subprocess says it), and whether the failpoint was reached."""
    return ended(*begin(home, failpoint, [10_000_000] if free is None else free))


def begin(home: Home, failpoint: str, free: list[int]) -> tuple[int, int]:
    """Begins a life; its pid, and where it says whether the failpoint was reached."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.close(reads)
            with Path(home.root / "life.log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = live(home, failpoint, list(free))
            armed = failpoints._armed
            os.write(writes, b"1" if armed is not None and armed.count >= armed.hit else b"0")
        except BaseException:  # noqa: BLE001 - a fork must not go on as pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writes)
    return child, reads


def ended(child: int, reads: int) -> tuple[int, bool]:
    told = os.read(reads, 1)
    os.close(reads)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, code == KILLED or told == b"1"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home((tmp_path / "home").resolve())
    made.root.mkdir()
    yield made
    shutil.rmtree(made.runtime(), ignore_errors=True)


def state(home: Home) -> str | None:
    if not home.store.exists():
        return None
    with read_only(home.store) as connection:
        try:
            row = connection.execute("SELECT state FROM run").fetchone()
        except audit_evidence.sqlite3.OperationalError:
            return None  # killed before the first schema step
    return None if row is None else str(row[0])


def check_everything(home: Home) -> list[dict[str, Any]]:
    """The run has ended, the checker is happy, and whatever the driver was told to be committed is there."""
    with read_only(home.store) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone()[0] == 1
        evidence = audit_evidence.gather(home, connection, "p")
    verdicts = audit_checks.check(evidence)
    assert [verdict for verdict in verdicts if not verdict.holds] == []
    assert [row["state"] for row in evidence.stored["run"]] == ["EXITED"]
    assert {(row["number"], row["end_reason"]) for row in evidence.stored["trial"]} == {
        (0, "finished"),
        (1, "finished"),
    }
    kept = {(row["trial"], row["step"]) for row in evidence.stored["result"]}
    assert kept == {(trial, step) for trial in range(TRIALS) for step in range(1, EPOCHS + 1)}
    diary = home.run_folder(evidence.run) / "x" / "diary"
    acknowledged = [tuple(map(int, line.split())) for line in diary.read_text().splitlines()]
    assert set(acknowledged) <= kept
    return [{"event": event.name, **event.fields} for event in evidence.told]


HITS = {
    "store.commit": (1, 2, 5, 8, 11, 14, 17, 20),
    "store.committed": (1, 2, 5, 8, 11, 14, 17, 20),
    "store.migrate": tuple(range(1, VERSION + 1)),
    "audit.write": (1, 3, 7, 12, 17, 22),
    "audit.sync": (1, 3, 7, 12, 17, 22),
    "audit.written": (1, 3, 7, 12, 17, 22),
    "rotate.shift": (1, 3),
    "ack.send": (1, 2, 5, 9),
}
"""At which of its hits a point is taken; at the first where none is named."""

PREPARED = {"rebuild.rename": "damaged", "rebuild.renamed": "damaged", "reserve.release": "low"}
"""What must be so before the point can be reached."""

CASES = [
    # The later hits of a point are the same code at other moments of the run: for `make test-all`.
    pytest.param(f"{point}:{hit}:{fault}", marks=[pytest.mark.slow] if hit != HITS.get(point, (1,))[0] else [])
    for point, faults in failpoints.POINTS.items()
    for fault in faults
    for hit in HITS.get(point, (1,))
]


@pytest.mark.parametrize("case", CASES)
def test_after_a_fault_at_any_durable_step_the_next_start_goes_on_and_nothing_is_lost(home: Home, case: str) -> None:
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
    for finding in repair.examine(home, Clock()):
        assert re.search("lacks [12] events at its end", finding.what), finding.what
        finding.apply()
    told = [event["event"] for event in check_everything(home)]
    assert told.count("store.rebuilt") == (prepared == "damaged"), "told once, by whichever life came so far"


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
    told = check_everything(home)
    names = [event["event"] for event in told]
    assert "disk.filled" in names or "disk.freed" not in names
    assert names.count("daemon.started") == 1


@pytest.fixture
def small_disk(home: Home) -> Iterator[Home]:
    """The home on a file system of 16 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", home.root], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield home
    finally:
        subprocess.run(["umount", "--lazy", home.root], check=True)


def until_told(home: Home, event: str) -> None:
    """Waits for an event in the log's parts, half a minute at most."""
    for _ in range(600):
        parts = audit_parts.all_parts(home.audit_log("p"))
        if any(f'"event":"{event}"'.encode() in line for part in parts for line in audit_parts.lines_of(part)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{event} was never told: {(home.root / 'life.log').read_text()}")


def test_on_a_disk_that_really_fills_the_pause_is_written_and_the_run_goes_on_by_itself(
    small_disk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_TEST_PAUSE_S", "0.7")
    home = small_disk
    child, reads = begin(home, "", [])
    try:
        until_told(home, "trial.reported")
        with contextlib.suppress(OSError), (home.root / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 65536)
        until_told(home, "disk.filled")
        assert not (home.state / "reserve").exists()
        (home.root / "filler").unlink()
        until_told(home, "disk.freed")
        assert (home.state / "reserve").exists()
    finally:
        (home.root / "filler").unlink(missing_ok=True)
        code, _ = ended(child, reads)
    assert code == 0, (home.root / "life.log").read_text()
    names = [event["event"] for event in check_everything(home)]
    assert names.count("daemon.started") == 1
    assert names.index("experiment.paused") > names.index("disk.filled") - 2
    assert "experiment.resumed" in names


def test_a_full_disk_at_a_drivers_message_is_waited_out_without_losing_it(home: Home) -> None:
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


def test_points_are_inert_unless_asked_for_and_a_wrong_name_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failpoints._armed is None
    for point in failpoints.POINTS:
        failpoints.hit(point)
    with pytest.raises(ValueError, match="no such point"):
        failpoints._parse("store.comit:1:kill")
    with pytest.raises(ValueError, match="no such point"):
        failpoints._parse("store.committed:1:eio")
    armed = failpoints._parse("ack.send:2x2:kill")
    monkeypatch.setattr(failpoints, "_armed", failpoints._parse("store.commit:2x2:enospc"))
    failpoints.hit("store.commit")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            failpoints.hit("store.commit")
    failpoints.hit("store.commit")
    assert armed == failpoints._Armed("ack.send", 2, 2, "kill")
