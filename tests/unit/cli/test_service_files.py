"""Test service files for any path, and the end of a hung loop."""

from __future__ import annotations

import configparser
import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli import supervisord
from supervisor.cli.service_files import ServiceFile, install, service_file
from supervisor.daemon.upkeep.loop_watchdog import Stall
from supervisor.errors import Conflict
from supervisor.home import Home

ODD = Path('/srv/my "own" 100% $HOME')


def read_unit(text: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    return unit


def test_the_unit_has_the_settings_of_a_daemon_with_children() -> None:
    service = read_unit(service_file(Home(Path("/srv/sweep")), "linux").text)["Service"]
    wanted = {
        "Type": "notify", "OOMPolicy": "continue", "KillMode": "mixed", "Restart": "on-failure", "WatchdogSec": "120",
        "UMask": "0077", "RestartPreventExitStatus": "2 3 4 5 6",
    }  # fmt: skip
    assert {key: service[key] for key in wanted} == wanted
    assert shlex.split(service["ExecStart"])[-2:] == ["start", "--foreground"]
    assert shlex.split(service["Environment"]) == ["SWEEP_HOME=/srv/sweep"]


def test_a_home_with_characters_special_to_systemd_is_kept_as_it_is() -> None:
    environment = read_unit(service_file(Home(ODD), "linux").text)["Service"]["Environment"]
    assert shlex.split(environment.replace("%%", "%")) == [f"SWEEP_HOME={ODD}"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_itself_accepts_the_unit(tmp_path: Path) -> None:
    file = service_file(Home(tmp_path), "linux")
    path = tmp_path / file.path.name
    path.write_text(file.text)
    done = subprocess.run(["systemd-analyze", "verify", "--user", path], capture_output=True, text=True, check=False)
    assert path.name not in done.stderr, done.stderr


def test_the_launchd_agent_is_a_property_list_with_the_same_meaning() -> None:
    agent = plistlib.loads(service_file(Home(ODD), "darwin").text.encode())
    assert agent["ProgramArguments"][-2:] == ["start", "--foreground"]
    assert agent["EnvironmentVariables"]["SWEEP_HOME"] == str(ODD)
    assert (agent["KeepAlive"], agent["ProcessType"], agent["Umask"]) == ({"SuccessfulExit": False}, "Interactive", 63)


def test_two_homes_have_two_services() -> None:
    files = {service_file(Home(Path(root)), "linux").path for root in ("/a", "/b")}
    assert len(files) == 2


def test_dry_run_prints_and_writes_nothing_and_installing_twice_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert supervisord.main(["install-service", "--dry-run"]) == 0
    assert "OOMPolicy=continue" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for said in ("written", "exists already"):
        assert supervisord.main(["install-service"]) == 0
        told = capsys.readouterr().out
        assert said in told
        assert "enable-linger" in told
    assert len(list((tmp_path / "config/systemd/user").iterdir())) == 1


def test_another_programs_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.service"
    path.write_text("[Service]\n")
    with pytest.raises(Conflict, match="found another"):
        install(ServiceFile(path, "new", ()))
    assert path.read_text() == "[Service]\n"


def test_a_loop_that_ticks_is_never_stalled_and_one_that_does_not_is_after_the_limit() -> None:
    stall = Stall(0.0, 60.0)
    assert not any(stall.look(2.0 * n, n) for n in range(1, 100))
    assert [stall.look(198.0 + 2.0 * n, 99) for n in range(1, 32)] == [False] * 30 + [True]


def test_time_in_which_the_whole_process_was_stopped_is_no_stall_of_the_loop() -> None:
    stall = Stall(0.0, 60.0)
    assert not stall.look(2.0, 1)
    assert not stall.look(4000.0, 1), "after a SIGSTOP or a sleeping machine"
    assert not stall.look(4002.0, 2)


PROGRAM = """
import asyncio, sys, time
from supervisor.daemon.upkeep.loop_watchdog import LoopWatchdog
pings = []
async def main():
    watchdog = asyncio.create_task(LoopWatchdog(lambda: pings.append(1), limit_s=0.4).run())
    await asyncio.sleep(1.5)
    print("pinged" if len(pings) > 3 else "silent", flush=True)
    time.sleep(60)  # the stall
asyncio.run(main())
"""


def test_a_stalled_loop_is_dumped_with_its_stack_and_aborted() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False, env=environment
    )
    assert done.stdout == "pinged\n", "a loop that ticks is left alone"
    assert done.returncode == -signal.SIGABRT
    assert "the main loop blocks" in done.stderr
    assert "in main" in done.stderr
