"""Test faults of a run's surroundings: clocks, sleep, a reboot, edits, upgrades, service managers, containers.

Sensors have a module of their own, test_faults_sensors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from supervisor import API_VERSION
from supervisor.clock import Clock
from supervisor.control import api
from supervisor.control.client import ask
from supervisor.daemon import __main__ as daemon_main
from supervisor.daemon import recovery
from supervisor.daemon.upkeep import background, notifier
from supervisor.errors import PlanChanged, VersionSkew
from supervisor.home import Home
from supervisor.plan.drift import sha256_of
from tests.acceptance.faults.evidence import names, nothing_begun, recorded, stored
from tests.acceptance.faults.stories import ONCE, finishes, is_gone, live_to_the_end, patience, status, story
from tests.acceptance.lives import (
    EPOCHS,
    REQUEST,
    TRIALS,
    Setting,
    check_everything,
    living,
    until,
    until_recorded,
)
from tests.waits import NET_S

HOUR, DAY = 3600.0, 86400.0
CHECKOUT = Path(__file__).resolve().parents[3]


def control(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sweepctl` as a user types it."""
    return subprocess.run(
        [Path(sys.executable).with_name("sweepctl"), *arguments], env={**os.environ, "SWEEP_HOME": str(home.root)},
        capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip


# Clocks


class SetClock(Clock):
    """The machine's clock, whose wall time is set back an hour after a second, and on a day after two."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def wall_s(self) -> float:
        lived_s = time.monotonic() - self._begun_s
        return time.time() + (0.0 if lived_s < 1.0 else -HOUR if lived_s < 2.0 else DAY)


def with_clock(clock: Callable[[], Clock]) -> None:
    daemon_main.Clock = clock  # type: ignore[misc, assignment]
    background.CLOCK_PERIOD_S = 0.2


DIES_LATE = (
    ONCE
    + """
def at(number, attempt, step):
    time.sleep(0.6)
    if (number, step) == (1, 3) and once("died"):
        os.kill(os.getpid(), 9)
"""
)


@pytest.mark.fault(
    "43",
    "the clock is set back an hour, then on a day",
    "recorded; no limit is reached, no time is negative, `seq` orders events",
)
def test_a_clock_that_is_set_ends_nothing_and_does_not_change_the_order_of_events(home: Home) -> None:
    """The experiment may take an hour; a day that passes on the wall clock only must not use it up."""
    hours = [{**REQUEST.specs[0], "max_hours": 1.0}]
    setting = Setting(
        driver=story(DIES_LATE),
        request=dataclasses.replace(REQUEST, specs=hours),
        change=functools.partial(with_clock, SetClock),
    )
    with living(home, setting) as it:
        until_recorded(home, "clock.set")
        view = status(home)
        assert view is not None
        assert view["daemon"]["now_wall"] < view["daemon"]["started_wall"], "the clock is an hour back"
        said = control(home, "status")
        assert said.returncode == 0, said.stderr
        assert "up 0 s" in said.stdout, "no time is negative"
        finishes(home, it)
    events = check_everything(home)
    set_by = [event["seconds"] for event in events if event["event"] == "clock.set"]
    assert [round(seconds / HOUR) for seconds in set_by] == [-1, 25]
    assert "driver.hung" not in names(events)
    assert names(events).count("driver.started") == 2
    assert all(event["seconds"] >= 0.0 for event in events if event["event"] in ("trial.finished", "run.finished"))
    lines = recorded(home)
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    assert [line["ts"] for line in lines] != sorted(line["ts"] for line in lines), "the wall clock did go back"


class SleepyClock(Clock):
    """The clocks of a laptop that slept for eight hours: the monotonic clock did not advance."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def _slept_s(self) -> float:
        return 8 * HOUR if time.monotonic() - self._begun_s > 1.0 else 0.0

    def wall_s(self) -> float:
        return time.time() + self._slept_s()

    def boot_s(self) -> float | None:
        return time.monotonic() + self._slept_s()


@pytest.mark.fault(
    "44", "a laptop sleeps for eight hours", "the gap is recorded and counts for no limit; no driver counts as hung",
    faked="clocks as they are after a sleep",
)  # fmt: skip
def test_the_hours_in_which_the_machine_slept_are_recorded_and_not_counted(home: Home) -> None:
    hours = [{**REQUEST.specs[0], "max_hours": 1.0}]
    live_to_the_end(
        home,
        Setting(
            driver=story(DIES_LATE),
            request=dataclasses.replace(REQUEST, specs=hours),
            change=functools.partial(with_clock, SleepyClock),
        ),
    )
    events = check_everything(home)
    assert [event["seconds"] for event in events if event["event"] == "machine.slept"] == [pytest.approx(8 * HOUR)]
    assert not {"clock.set", "driver.hung"} & set(names(events))
    assert names(events).count("driver.started") == 2


def watchful(program: str) -> None:
    patience(4.0, program)()
    background.CLOCK_PERIOD_S, background.STOOD_STILL_S = 0.2, 3.0


@pytest.mark.fault(
    "44", "SIGSTOP of daemon and driver for longer than a driver may be silent",
    "the gap is recorded, the driver does not count as hung, no attempt is lost",
)  # fmt: skip
def test_stopped_processes_continue_and_lose_no_attempt(home: Home) -> None:
    slow = story("def at(number, attempt, step):\n    time.sleep(0.3)\n")
    with living(home, Setting(driver=slow, change=functools.partial(watchful, slow))) as it:
        until_recorded(home, "trial.reported")
        (driver,) = [event["pid"] for event in recorded(home) if event["event"] == "driver.started"]
        for pid in (driver, it.pid):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(6.0)
        os.kill(it.pid, signal.SIGCONT)
        # The daemon looks first, and its driver has still not said a word.
        time.sleep(0.7)
        os.kill(driver, signal.SIGCONT)
        finishes(home, it)
    events = check_everything(home)
    stood = [event["seconds"] for event in events if event["event"] == "daemon.stood_still"]
    assert len(stood) == 1
    assert stood[0] > 3.0
    assert not {"driver.hung", "driver.exited", "trial.requeued"} & set(names(events))


# A reboot


def booted_as(boot: str) -> None:
    recovery.boot_id = lambda: boot  # type: ignore[assignment]


@pytest.mark.fault(
    "45", "a reboot while the operator's pause holds", "a paused run stays paused; resumed, it ends with every result",
    faked="another boot id, all processes gone, a stale socket and lock left",
)  # fmt: skip
def test_after_a_reboot_a_paused_run_stays_paused_until_it_is_resumed(home: Home) -> None:
    slow = Setting(pause_s=0.3, change=functools.partial(booted_as, "boot-1"))
    with living(home, slow) as it:
        until_recorded(home, "trial.reported")
        ask(home, "pause", {"now": True, "reason": "away"})
        it.kill()
    (driver,) = [event["pid"] for event in recorded(home) if event["event"] == "driver.started"]
    until(home, "the driver is gone, too", lambda: is_gone(driver))
    assert home.socket.exists(), "nobody took it away"
    assert status(home) is None
    home.lock.write_text("boot-1 1 1\n")  # as it may be read: of another boot, a pid that is somebody else's now
    reported = names(recorded(home)).count("trial.reported")
    anew = dataclasses.replace(REQUEST, plan=None)  # what the service file starts: whatever is unfinished
    with living(home, Setting(request=anew, change=functools.partial(booted_as, "boot-2"))) as it:
        until_recorded(home, "experiment.paused", 2)
        time.sleep(1.0)
        assert names(recorded(home)).count("trial.reported") == reported, "paused is paused"
        view = status(home)
        assert view is not None
        assert [command["reason"] for command in view["commands"]] == ["away"]
        ask(home, "resume", {})
        finishes(home, it)
    events = check_everything(home)
    assert [e["boot_id"] for e in events if e["event"] == "daemon.started"] == ["boot-1", "boot-2"]
    assert [e["requeued"] for e in events if e["event"] == "daemon.recovered"] == [1]


@pytest.mark.fault(
    "45", "a reboot of a run that was stopped", "nothing starts by itself; a start by its name continues it to its end",
    faked="another boot id, all processes gone",
)  # fmt: skip
def test_after_a_reboot_a_stopped_run_stays_stopped(home: Home) -> None:
    with living(home, Setting(pause_s=0.3, change=functools.partial(booted_as, "boot-1"))) as it:
        until_recorded(home, "trial.reported")
        ask(home, "stop", {})
        assert it.ended()[0] == 0
    anew = dataclasses.replace(REQUEST, plan=None)
    before = len(recorded(home))
    with living(home, Setting(request=anew, change=functools.partial(booted_as, "boot-2"))) as it:
        assert it.ended()[0] == 2, "there is nothing to go on with"
    assert len(recorded(home)) == before
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "stop"}]
    live_to_the_end(home, Setting(change=functools.partial(booted_as, "boot-2")))
    assert "run.wanted" in names(check_everything(home))


# Edits and upgrades


@pytest.mark.fault(
    "48", "the plan's file is edited while its run is at work",
    "status says so, SIGHUP records the changes or the error; the run keeps its copy, the edited plan is refused",
)  # fmt: skip
def test_an_edited_plan_changes_no_run_that_began_before(home: Home) -> None:
    file = home.root / "p.yaml"
    file.write_text("name: p\n")
    hardware = {**REQUEST.hardware, "source_sha256": sha256_of(file)}
    request = dataclasses.replace(REQUEST, source=str(file), hardware=hardware)
    edited = dataclasses.replace(request, plan_text="name: p\nseed: 2\n", fingerprint="g",
                                 specs=[{**REQUEST.specs[0], "max_trials": 99}])  # fmt: skip
    with living(home, Setting(request=request, pause_s=1.0)) as it:
        until_recorded(home, "trial.reported")
        assert "has changed since" not in control(home, "status").stdout
        file.write_text((CHECKOUT / "docs" / "examples" / "quadratic.yaml").read_text())
        assert f"{file} has changed since" in control(home, "status").stdout
        it.signal(signal.SIGHUP)
        until_recorded(home, "plan.compared")
        file.write_text("name: [\n")
        it.signal(signal.SIGHUP)
        until_recorded(home, "plan.refused")
        it.kill()
    (compared,) = [event["changes"] for event in recorded(home) if event["event"] == "plan.compared"]
    assert "name: p -> quadratic" in compared
    (refused,) = [event["error"] for event in recorded(home) if event["event"] == "plan.refused"]
    assert "not YAML" in refused
    rows = stored(home, "SELECT id, fingerprint, plan_text FROM run")
    with living(home, Setting(request=edited)) as it:
        assert it.ended()[0] == PlanChanged.exit_code
    assert stored(home, "SELECT id, fingerprint, plan_text FROM run") == rows
    assert "the plan has changed since it began" in (home.root / "life.log").read_text()
    live_to_the_end(home, Setting(request=dataclasses.replace(REQUEST, plan=None)))
    check_everything(home)
    (copy,) = home.runs.glob("*/plan.yaml")
    assert copy.read_text() == "name: p\n" == rows[0]["plan_text"]


def upgraded() -> None:
    api.API_VERSION = API_VERSION + 1  # type: ignore[attr-defined]


@pytest.mark.fault(
    "49",
    "the package is upgraded under a running daemon",
    "commands refuse with exit code 5 and the reason; the run ends as usual",
)
def test_a_command_of_another_version_is_refused_and_the_run_continues(home: Home) -> None:
    with living(home, Setting(pause_s=0.3, change=upgraded)) as it:
        until_recorded(home, "trial.reported")
        with pytest.raises(VersionSkew, match=str(API_VERSION + 1)):
            ask(home, "status")
        said = control(home, "pause")
        assert (said.returncode, said.stdout) == (VersionSkew.exit_code, "")
        assert VersionSkew.exit_code == 5
        finishes(home, it)
    assert not {"run.paused", "experiment.paused"} & set(names(check_everything(home)))


# Who else is there


@contextlib.contextmanager
def deaf_manager(folder: Path) -> Iterator[str]:
    """Make a service manager's socket that is never read and whose queue is full."""
    address = str(folder / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others,
    ):
        manager.bind(address)
        others.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                others.sendto(b"x" * 100, address)
        yield address


@pytest.mark.fault(
    "50", "the service manager does not read, or is not there", "the loop never waits for it, the run ends as usual"
)
@pytest.mark.parametrize("there", [True, False])
def test_a_service_manager_that_does_not_read_blocks_nothing(
    home: Home, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deaf_manager(home.root) as address:
        monkeypatch.setenv("NOTIFY_SOCKET", address if there else f"{address}-gone")
        live_to_the_end(home)
    check_everything(home)


@pytest.mark.fault(
    "51", "the famous Supervisor is installed into our environment", "exit code 5, both paths, the cure; no run is made"
)
def test_beside_the_other_supervisor_no_run_is_made(home: Home, tmp_path: Path) -> None:
    """Both packages are in one folder, as pip leaves them, with the metadata of both."""
    site = tmp_path / "site-packages"
    site.mkdir()
    for ours in ("supervisor", "_sweep_launcher.py", "tune_configs"):
        (site / ours).symlink_to(CHECKOUT / ours)
    (site / "sweep_supervisor-0.1.0.dist-info").mkdir()
    (site / "supervisor-4.3.0.dist-info").mkdir()
    call = "import sys, _sweep_launcher; sys.exit(_sweep_launcher.supervisord(['start', 'smoke']))"
    said = subprocess.run(
        [sys.executable, "-S", "-B", "-c", call],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "SWEEP_HOME": str(home.root)},
        capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (5, "")
    assert str(site / "supervisor-4.3.0.dist-info") in said.stderr
    assert "virtual environment of its own" in said.stderr
    nothing_begun(home)


AS_PROCESS_1 = """
import os, sys
from tests.acceptance import lives
from supervisor.cli import launch
from supervisor.home import Home
from pathlib import Path

home, inside = Path(sys.argv[1]), len(sys.argv) > 2
if inside:
    os._exit(lives.live(Home(home), lives.Setting(driver=Path(sys.argv[2]).read_text())))
launch.daemon_command = lambda ready_fd: [sys.executable, "-c", os.environ["PROGRAM"], str(home), os.environ["STORY"]]
launch.become_daemon(lives.REQUEST)
"""
LEAVES_ORPHANS = """
def at(number, attempt, step):
    for _ in range(3):
        if (child := os.fork()) == 0:
            if os.fork() == 0:
                time.sleep(0.05)
            os._exit(0)
        os.waitpid(child, 0)
    time.sleep(0.3)
    states = [path.read_text().rpartition(")")[2].split() for path in pathlib.Path("/proc").glob("[0-9]*/stat")]
    zombies = sum(words[:2] == ["Z", "1"] for words in states)
    keep(folder / "zombies", f"{os.getppid()} {zombies}\\n".encode(), "ab")
"""


@contextlib.contextmanager
def process_1(home: Home, program: str) -> Iterator[subprocess.Popen[str]]:
    """Start a daemon in the foreground by process 1 of a namespace of its own."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a namespace of processes cannot be made here")
    file = home.root / "story.py"
    file.write_text(program)
    environment = {**os.environ, "PROGRAM": AS_PROCESS_1, "STORY": str(file), "PYTHONPATH": str(CHECKOUT)}
    command = [*unshare, sys.executable, "-c", AS_PROCESS_1, str(home.root)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as outside:
        try:
            yield outside
        finally:
            outside.kill()


@pytest.mark.fault(
    "52", "the daemon is process 1 of a container", "it runs in the foreground, orphans are reaped, it ends with 0"
)
def test_process_1_reaps_orphans_and_ends_with_0(home: Home) -> None:
    with process_1(home, story(LEAVES_ORPHANS)) as outside:
        _, said = outside.communicate(timeout=NET_S)
    assert outside.returncode == 0, said
    check_everything(home)
    (counted,) = home.runs.glob("*/x/zombies")
    parents, zombies = zip(*(map(int, line.split()) for line in counted.read_text().splitlines()), strict=True)
    assert len(zombies) == TRIALS * EPOCHS
    assert max(zombies) == 0, "none waits for a parent that does not look"
    assert 1 not in parents, "the daemon is a child of process 1"


@pytest.mark.fault(
    "52", "a container with the daemon gets SIGTERM", "it is passed on, the run stops with 0 and continues elsewhere"
)
def test_process_1_passes_sigterm_on(home: Home) -> None:
    with process_1(home, story("def at(number, attempt, step):\n    time.sleep(0.3)\n")) as outside:
        until_recorded(home, "trial.reported")
        (inside,) = psutil.Process(outside.pid).children()
        inside.send_signal(signal.SIGTERM)
        _, said = outside.communicate(timeout=NET_S)
    assert outside.returncode == 0, said
    assert [event["reason"] for event in recorded(home) if event["event"] == "daemon.stopped"] == ["SIGTERM"]
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "run"}]
    live_to_the_end(home)
    check_everything(home)


class Service(ThreadingHTTPServer):
    """A service that takes messages while it is `up`, and answers 503 before."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.up, self.taken, self.asked = threading.Event(), list[str](), 0

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/"


class Desk(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.server.up.is_set():
            self.server.taken.append(body)
        self.send_response(200 if self.server.up.is_set() else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.up.set()
        made.shutdown()


def busy_notifier() -> None:
    """Look and try again at once, and let a slow machine take its time to send."""
    notifier.LOOK_PERIOD_S, notifier.AT_MOST_EVERY_S, notifier.SEND_WITHIN_S = 0.1, 0.1, NET_S
    notifier.LAST_MESSAGE_WITHIN_S = NET_S
    notifier.retry_in_s = lambda failures: 0.2


LOSES_A_SENSOR = """
def at(number, attempt, step):
    awaited = {(0, 2): "service-asked", (0, 3): "service-up"}.get((number, step))
    while awaited and not (folder.parents[2] / awaited).exists():
        outbox.write(codec.encode(link.Heartbeat()))
        time.sleep(0.1)
    if (number, attempt, step) == (0, 1, 1):
        send(link.WatchdogUp("node", os.getpid(), True, {}))
        send(link.SensorNoted("node", "watchdog.lost", {"sensor": "fake:die/a"}))
"""


@pytest.mark.fault(
    "50",
    "the messages' service is down",
    "the loop never waits, one event records it; the missed messages are sent later",
)
def test_messages_that_a_service_missed_while_down_are_sent_later(
    home: Home, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise", reason="messages need the extra `notify`")
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    home.prepare()
    home.notify.touch(mode=0o600)
    home.notify.write_text(f"{service.address}\n")
    driver = story(LOSES_A_SENSOR)
    with living(home, Setting(driver=driver, change=busy_notifier)) as it:
        until_recorded(home, "notice.failed")
        until(home, "it was tried again", lambda: service.asked > 1)
        assert status(home) is not None, "it answers all the while"
        (home.root / "service-asked").touch()
        until_recorded(home, "trial.reported", times=2)
        it.kill()
    assert "notice.sent" not in names(recorded(home))
    assert names(recorded(home)).count("notice.failed") == 1, "once, however often it is tried"
    service.up.set()
    (home.root / "service-up").touch()
    live_to_the_end(home, Setting(driver=driver, change=busy_notifier))
    events = check_everything(home)
    assert "notice.sent" in names(events)
    assert any("the watchdog of node node does not answer" in body for body in service.taken), service.taken
    assert any("run finished" in body for body in service.taken)
