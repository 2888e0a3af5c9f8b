"""Files that let the machine's service manager start the daemon: a systemd user unit, or a launchd agent.

What is started is `supervisord start --foreground` without a plan: it goes on with the last unfinished run that is
wanted, so a reboot loses nothing and a paused run stays paused. Standard library only.
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
# {mark}; the next one writes it anew: for changes of yours, `systemctl --user edit`
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
# Nothing to go on with, no right, another program's name, a plan that is wrong: trying again would not help.
RestartPreventExitStatus={no_retry}
WatchdogSec=120
TimeoutStartSec=180
# Trials save themselves first.
TimeoutStopSec=2min
# TERM for the daemon, which ends its children; KILL for whatever is left.
KillMode=mixed
# One trial without memory must not take the daemon with it.
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
    """For this machine's service manager: launchd on macOS, else systemd."""
    return _launchd(home) if platform == "darwin" else _systemd(home)


def _command() -> list[str]:
    script = Path(sys.executable).parent / "supervisord"
    program = [str(script)] if script.exists() else [sys.executable, "-P", "-m", "supervisor.cli.supervisord"]
    return [*program, "start", "--foreground"]


def _quoted(text: str) -> str:
    """One word of a unit file (systemd.syntax(7), systemd.service(5)): $ and % mean something there."""
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
        "loginctl enable-linger  # or the end of your session ends it",
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
    """Writes it, atomically; False when it was there already, the same. Raises Conflict for a file that is not ours."""
    if file.path.exists():
        there = file.path.read_text(errors="replace")
        if there == file.text:
            return False
        if MARK not in there:
            raise Conflict(f"{file.path} is there and not ours", remedy="move it aside, or use --dry-run")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file.path, file.text.encode())
    return True
