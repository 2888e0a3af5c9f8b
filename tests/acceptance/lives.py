"""Run the real daemon without Ray, in lives of a second that tests disturb.

A life is a fork of this process: the real Daemon, store, log and socket, a Ray head that is none, and a driver that
plays a story over the real link, keeping a diary of what was acknowledged to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from supervisor import failpoints
from supervisor.audit import evidence as audit_evidence
from supervisor.audit import invariants, rotation
from supervisor.audit.log import open_audit_log
from supervisor.audit.rotation import Limits
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.daemon import assembly, run_end
from supervisor.daemon.__main__ import serve
from supervisor.daemon.upkeep import disk_reserve
from supervisor.daemon.upkeep.disk_reserve import MIB, DiskReserve, ReserveLimits
from supervisor.errors import SweepError
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from supervisor.store.database import read_only
from tests import waits

TRIALS, EPOCHS = 2, 3
KILLED = -signal.SIGKILL

DRIVER = """
import argparse, hashlib, os, pathlib, select, time
from supervisor.domain import codec
from supervisor.domain import messages as link

parser = argparse.ArgumentParser()
parser.add_argument("--read-fd", type=int)
parser.add_argument("--write-fd", type=int)
arguments = parser.parse_args()
inbox, outbox = os.fdopen(arguments.read_fd, "rb", 0), os.fdopen(arguments.write_fd, "wb", 0)
count = 0
actions = []

def hear():
    global actions
    line = inbox.readline()
    if not line:
        os._exit(70)
    message = codec.decode(line)[0]
    if isinstance(message, link.Finish) and "SWEEP_TEST_STUBBORN" not in os.environ:
        os._exit(0)
    if isinstance(message, link.Begin | link.Commanded):
        actions = [command["action"] for command in message.commands]
    return message

def rest(*kept_from):
    "As long as one of the commands keeps us from what comes next."
    while set(actions) & set(kept_from):
        if select.select([inbox], [], [], 2.0)[0]:
            hear()
        else:
            outbox.write(codec.encode(link.Heartbeat()))

def await_end(number, step):
    "Before the run's last result: until the test lets the run end."
    file = os.environ.get("SWEEP_TEST_MAY_END")
    if file and (number, step) == (begin.experiment["max_trials"] - 1, EPOCHS):
        while not os.path.exists(file):
            if select.select([inbox], [], [], 0.05)[0]:
                hear()
            outbox.write(codec.encode(link.Heartbeat()))
        rest("PAUSE")

def keep(path, data, mode="wb"):
    "As a trial does on a full disk: again, until there is space."
    while True:
        try:
            with path.open(mode) as file:
                file.write(data)
            return
        except OSError:
            time.sleep(0.1)

def send(message):
    global count
    count += 1
    outbox.write(codec.encode(message, count))
    while hear() != link.Ack(count):
        pass
    if isinstance(message, link.ResultReported):
        keep(diary, f"{message.number} {message.step}\\n".encode(), "ab")

outbox.write(codec.encode(link.Hello()))
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
    rest("HOLD", "PAUSE")
    send(link.TrialAdded(number, {"lr": 0.1}, "sampled"))
    send(link.TrialStarted(number, attempt, "ray", "node", os.getpid(), done or None))
    for step in range(done + 1, EPOCHS + 1):
        checkpoint = folder / f"{number}-checkpoint-{step}.pt"
        body = b"x" * 100
        rest("PAUSE")
        time.sleep(float(os.environ.get("SWEEP_TEST_PAUSE_S", 0)))
        await_end(number, step)
        keep(checkpoint, body + b"SWEEPCK1" + hashlib.sha256(body).digest())
        send(link.ResultReported(number, attempt, step, 1 / step, {}, str(checkpoint)))
    send(link.TrialEnded(number, attempt, "finished", 1 / EPOCHS, None, {}))
send(link.ExperimentEnded(None))
""".replace("EPOCHS", str(EPOCHS))

SPECS = [{"name": "x", "mode": "min", "max_trials": TRIALS, "concurrency": 1, "max_hours": None, "enqueue": []}]
REQUEST = StartRequest("p", fingerprint="f", plan_text="name: p\n", hardware={"wake_lock": False}, specs=SPECS)


LIMITS = ReserveLimits(reserve_bytes=4096, low_bytes=1000, enough_bytes=2000)


class FakeHead:
    def __init__(self, *_: Any) -> None:
        self.address, self.dashboard, self.pid, self.port_taken = "127.0.0.1:1", "http://127.0.0.1:2", 3, None

    async def start(self) -> None:
        """Start nothing."""

    async def exited(self) -> int:
        await asyncio.Event().wait()
        return 0

    async def stop(self) -> None:
        """Stop nothing."""


@dataclass(frozen=True)
class Setting:
    """The settings of a life.

    `free` is the free space, look by look; the last stays. Empty: the real one. `driver` is its program; `change` is
    called in the fork before the life, to replace a part of the daemon. Each epoch of the story takes `pause_s`; the
    last one waits until the file `may_end` exists; a `stubborn` driver ignores Finish.
    """

    failpoint: str = ""
    free: tuple[int, ...] = (10_000_000,)
    request: StartRequest = REQUEST
    driver: str = DRIVER
    change: Callable[[], object] = int
    pause_s: float = 0.0
    stubborn: bool = False
    may_end: Path | None = None


def live(home: Home, setting: Setting) -> int:
    """Live one life in this process; return its exit code."""
    failpoints.arm(setting.failpoint)
    if setting.pause_s:
        os.environ["SWEEP_TEST_PAUSE_S"] = str(setting.pause_s)
    if setting.may_end is not None:
        os.environ["SWEEP_TEST_MAY_END"] = str(setting.may_end)
    if setting.stubborn:
        os.environ["SWEEP_TEST_STUBBORN"] = "1"
    free = list(setting.free)

    def free_bytes(folder: Path) -> int:
        if not free:
            return disk_reserve.free_bytes(folder)
        return free.pop(0) if len(free) > 1 else free[0]

    async def no_report(*_: Any) -> None:
        return None

    assembly.RayHead = FakeHead  # type: ignore[misc, assignment]
    assembly.DriverProcess = lambda environment, log: DriverProcess(  # type: ignore[misc, assignment]
        dict(os.environ), log, 20.0, (sys.executable, "-c", setting.driver)
    )
    assembly.skip_reason = lambda spec: None
    assembly.known_trial_seconds = lambda home, spec, cores: None
    assembly.open_audit_log = functools.partial(open_audit_log, limits=Limits(max_bytes=1500, parts=30))
    limits = LIMITS if free else ReserveLimits(reserve_bytes=MIB, low_bytes=MIB // 2, enough_bytes=3 * MIB)
    assembly.DiskReserve = lambda folder, clock: DiskReserve(folder, clock, limits, free_bytes)  # type: ignore[misc, assignment]
    run_end.report = no_report
    orphans.end = lambda key, **_: []  # type: ignore[assignment]
    setting.change()
    lock = None
    try:
        home.prepare()
        lock = take_lock(home)
        return asyncio.run(serve(home, setting.request, Readiness(None)))
    except SweepError as error:
        os.write(2, f"ended by {error.render()}\n".encode())
        return error.exit_code
    except OSError as error:
        os.write(2, f"ended by {error}\n".encode())
        return 1
    finally:
        if lock is not None:
            os.close(lock)


NEWEST: dict[Path, int] = {}
"""The pid of the last life of each home."""
LOOKS_AFTER_DEATH = 200


def life(home: Home, failpoint: str = "", free: list[int] | None = None, **setting: Any) -> tuple[int, bool]:
    """Live one life; return its exit code (as subprocess has it), and whether the failpoint was reached."""
    if free is not None:
        setting["free"] = tuple(free)
    return ended(*begin(home, Setting(failpoint, **setting)))


def begin(home: Home, setting: Setting = Setting()) -> tuple[int, int]:
    """Begin a life in a fork; return its pid, and the pipe on which it says whether the failpoint was reached."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.close(reads)
            with (home.root / "life.log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            # pytest's own would take what the life has to say.
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            faulthandler.disable()
            logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
            code = live(home, setting)
            os.write(writes, b"1" if failpoints.reached() else b"0")
        except BaseException:  # noqa: BLE001 - a fork must not go on as pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writes)
    NEWEST[home.root] = child
    return child, reads


def ended(child: int, reads: int) -> tuple[int, bool]:
    reached = os.read(reads, 1)
    os.close(reads)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, code == KILLED or reached == b"1"


@dataclass
class Life:
    """A life under way. On the pipe `reads` it says whether the failpoint was reached."""

    pid: int
    reads: int
    may_end: Path
    end: tuple[int, bool] | None = field(default=None)

    def ended(self) -> tuple[int, bool]:
        """Wait for its end; return its exit code, and whether the failpoint was reached."""
        self.may_end.touch()
        if self.end is None:
            self.end = ended(self.pid, self.reads)
        return self.end

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it by SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        assert self.ended()[0] == KILLED


@contextlib.contextmanager
def living(home: Home, setting: Setting = Setting()) -> Iterator[Life]:
    """Live beside the test: the run does not end before Life.ended() is called.

    The life is killed at the end of the block if it still goes on.
    """
    may_end = home.root.with_name(f"{home.root.name}-may-end")
    may_end.unlink(missing_ok=True)
    it = Life(*begin(home, replace(setting, may_end=may_end)), may_end)
    try:
        yield it
    finally:
        if it.end is None:
            os.kill(it.pid, signal.SIGKILL)
            it.ended()


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
    """Assert that the run has ended with every promise and every acknowledged result kept; return its events."""
    with read_only(home.store) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone()[0] == 1
        evidence = audit_evidence.gather(home, connection, "p")
    verdicts = invariants.check(evidence)
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
    return [{"event": event.name, **event.fields} for event in evidence.logged]


def until_recorded(home: Home, event: str, times: int = 1) -> None:
    """Wait until the log's parts hold so many events of that name."""
    text = f'"event":"{event}"'.encode()

    def is_recorded() -> bool:
        parts = rotation.all_parts(home.audit_log("p"))
        return sum(text in line for part in parts for line in rotation.lines_of(part)) >= times

    until(home, f"{event} is recorded", is_recorded)


def _is_over(life: int | None) -> bool:
    """Return whether a life of this process has ended and was not waited for."""
    try:
        return life is not None and os.waitid(os.P_PID, life, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def until(home: Home, what: str, test: Callable[[], object]) -> None:
    """Wait until `test` holds; a file that a rotation moves meanwhile is looked for again.

    Once the last life has ended, only its driver can still write: then it fails after LOOKS_AFTER_DEATH looks.
    """
    looks_left = LOOKS_AFTER_DEATH

    def holds() -> bool:
        nonlocal looks_left
        looks_left -= _is_over(NEWEST.get(home.root))
        with contextlib.suppress(FileNotFoundError):
            if test():
                return True
        assert looks_left > 0, f"the daemon has ended: {what}; {(home.root / 'life.log').read_text()[-4000:]}"
        return False

    waits.until(what, holds, (home.root / "life.log").read_text)
