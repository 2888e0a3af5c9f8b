"""Test faults of a run's surroundings: edits, upgrades, service managers, containers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from supervisor import API_VERSION
from supervisor.control import api
from supervisor.control.client import ask
from supervisor.errors import PlanChanged, VersionSkew
from supervisor.home import Home
from supervisor.plan.drift import sha256_of
from tests.acceptance.faults.evidence import names, nothing_begun, recorded, stored
from tests.acceptance.faults.stories import control, finishes, live_to_the_end, story
from tests.acceptance.lives import (
    EPOCHS,
    REQUEST,
    TRIALS,
    Setting,
    check_everything,
    living,
    until_recorded,
)
from tests.waits import NET_S

CHECKOUT = Path(__file__).resolve().parents[3]


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


# Other programs


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
launch.become_daemon(Home(home), lives.REQUEST)
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
