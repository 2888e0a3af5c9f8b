"""Writes the file that lets a service manager start the daemon: a systemd user unit, or a launchd agent.

It starts `supervisord start --foreground` without a plan: that resumes the last unfinished run that was not stopped, so
a reboot loses nothing and a paused run stays paused. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import plistlib
import sys
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import NOT_WORTH_A_RETRY, Conflict
from supervisor.filesystem import write_atomically
from supervisor.home import Home

MARK = "written by supervisord install-service"

_UNIT = """\
# {mark}, which overwrites it: make your changes by `systemctl --user edit`
[Unit]
Description=Sweep supervisor of {home_plain}
StartLimitIntervalSec=1h
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Environment={environment}
Restart=on-failure
RestartSec=5
RestartSteps=6
RestartMaxDelaySec=5min
# No run to resume, no permission, another program's name, an invalid plan: a retry would fail in the same way.
RestartPreventExitStatus={no_retry}
WatchdogSec=120
TimeoutStartSec=180
# Time for trials to write their checkpoints.
TimeoutStopSec=2min
# TERM for the daemon, which ends its children; KILL for the rest.
KillMode=mixed
# A trial that runs out of memory must not end the daemon.
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class ServiceFile:
    path: Path
    text: str
    next_steps: tuple[str, ...]


def install_service(home: Home, arguments: argparse.Namespace) -> int:
    file = service_file(home)
    if arguments.dry_run:
        print(file.text, end="")
        print(f"it would be written to {file.path}", file=sys.stderr)
        return 0
    home.prepare()
    print(f"{file.path}: {'written' if install(file) else 'exists already, the same'}")
    print("then:")
    for step in file.next_steps:
        print(f"  {step}")
    return 0


def service_file(home: Home, platform: str = sys.platform) -> ServiceFile:
    """Return the file for this machine's service manager: launchd on macOS, else systemd."""
    return _launchd(home) if platform == "darwin" else _systemd(home)


def _command() -> list[str]:
    script = Path(sys.executable).parent / "supervisord"
    program = [str(script)] if script.exists() else [sys.executable, "-P", "-m", "supervisor.cli.supervisord"]
    return [*program, "start", "--foreground"]


def _quoted(text: str) -> str:
    """Return `text` quoted for a unit file: $ and % have a meaning there (systemd.syntax(7), systemd.service(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _systemd(home: Home) -> ServiceFile:
    name = f"sweep-supervisor-{home.key}"
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    text = _UNIT.format(
        mark=MARK, home_plain=str(home.root).replace("%", "%%").replace("\n", " "),
        command=" ".join(_quoted(word) for word in _command()),
        environment=_quoted(f"SWEEP_HOME={home.root}").replace("$$", "$"),
        no_retry=" ".join(map(str, NOT_WORTH_A_RETRY)),
    )  # fmt: skip
    steps = (
        f"systemctl --user daemon-reload && systemctl --user enable {name}",
        "loginctl enable-linger  # without it the end of your session ends the daemon",
    )
    return ServiceFile(folder / f"{name}.service", text, steps)


def _launchd(home: Home) -> ServiceFile:
    label = f"sweep-supervisor.{home.key}"
    agent = {
        "Label": label,
        "ProgramArguments": _command(),
        "EnvironmentVariables": {"SWEEP_HOME": str(home.root), "PATH": os.environ.get("PATH", os.defpath)},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 60,
        "ExitTimeOut": 120,
        # Without it, launchd slows CPU and disk down (launchd.plist(5)).
        "ProcessType": "Interactive",
        "LowPriorityIO": False,
        "Umask": 0o077,
        "StandardOutPath": str(home.logs / "daemon.log"),
        "StandardErrorPath": str(home.logs / "daemon.log"),
    }
    text = plistlib.dumps(agent, sort_keys=False).decode().replace("<plist", f"<!-- {MARK} -->\n<plist", 1)
    path = Path.home() / "Library" / "LaunchAgents" / f"{label}.plist"
    return ServiceFile(path, text, (f"launchctl bootstrap gui/$(id -u) '{path}'",))


def install(file: ServiceFile) -> bool:
    """Write the file; return False when it exists already, the same. Raises Conflict for another program's file."""
    if file.path.exists():
        there = file.path.read_text(errors="replace")
        if there == file.text:
            return False
        if MARK not in there:
            raise Conflict(
                f"expected no file at {file.path}, or one of this program; found another", remedy="move it aside"
            )
    file.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file.path, file.text.encode())
    return True
