"""Explains command lines that were meant for Supervisor (PyPI `supervisor`); its commands have the same names.

Standard library only: it checks each command line first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_SNIFF_BYTES = 65_536
_SECTION = re.compile(
    r"^\s*\[(program:[^\]]+|supervisord|supervisorctl|unix_http_server|inet_http_server)\]", re.MULTILINE
)

_OPTIONS = {
    "supervisord": {
        "-c", "-n", "-u", "-m", "-d", "-l", "-y", "-z", "-e", "-j", "-i", "-q", "-a", "-s", "-k",
        "-t", "--configuration", "--nodaemon", "--user", "--umask", "--directory", "--logfile",
        "--logfile_maxbytes", "--logfile_backups", "--loglevel", "--pidfile", "--identifier",
        "--childlogdir", "--minfds", "--minprocs", "--silent", "--nocleanup", "--strip_ansi",
        "--profile_options",
    },
    "supervisorctl": {
        "-c", "-s", "-u", "-p", "-i", "-r", "--configuration", "--serverurl", "--username",
        "--password", "--interactive", "--history-file",
    },
}  # fmt: skip
"""Options of Supervisor 4.3 before a verb (its options.py), without --help and --version, which both programs have."""

_INSTEAD = {
    "supervisord": "start a plan with `supervisord start PLAN`; `supervisord plans` lists them, "
    "and `--foreground` keeps the daemon in the terminal",
    "supervisorctl": "ask with `supervisorctl status`; `supervisorctl --help` lists the other commands",
}


VERBS_INSTEAD = {
    "restart": "`supervisorctl shutdown`, then `supervisord start`",
    "reload": "`supervisorctl shutdown`, then `supervisord start`",
    "update": "`supervisorctl reread --apply` takes over what can change in the run; `supervisord start PLAN --new` "
    "begins one with the plan as it is now",
    "maintail": "`supervisorctl tail`",
    "fg": "`supervisorctl log TRIAL -f` shows what a trial prints",
    "avail": "`supervisord plans`",
    "add": "`supervisord start PLAN --queue`",
    "remove": "`supervisorctl queue remove PLAN`, or `supervisorctl skip EXPERIMENT` of the run at work",
    "clear": "`supervisorctl gc`",
    "signal": "`supervisorctl pause`, `supervisorctl stop` or `supervisorctl shutdown`",
    "pid": "`supervisorctl status` has the daemon's pid",
    "help": "`supervisorctl --help`, or VERB --help",
}
"""Verbs of Supervisor 4.3 that this program does not have, each with what to type here instead."""


def explain_foreign_flags(program: str, argv: Sequence[str]) -> str | None:
    """Return the explanation when `argv` is a command line of the other Supervisor; None when it is not.

    `program` is supervisord or supervisorctl. Only options before the first verb count. Without arguments the other
    program starts a daemon or a shell, so that is explained, too.
    """
    if not argv:
        return _text(program, f"expected a verb after {program}, found none")
    option, value = _split(argv)
    if option not in _OPTIONS[program]:
        return None
    if option in {"-c", "--configuration"} and value is not None:
        return _text(program, _about_file(Path(value)))
    return _text(program, f"{option} is an option of Supervisor (the PyPI package `supervisor`), not of this program")


def _split(argv: Sequence[str]) -> tuple[str, str | None]:
    """Return the first option and its value in getopt's spellings: -c x, -cx, --long x, --long=x."""
    first = argv[0]
    if first.startswith("--"):
        option, _, glued = first.partition("=")
    else:
        option, glued = first[:2], first[2:]
        if not first.startswith("-"):
            return first, None
    following = argv[1] if len(argv) > 1 else None
    return option, glued or following


def _about_file(path: Path) -> str:
    section = _foreign_section(path)
    if section is not None:
        return f"{path} is a configuration of Supervisor (the PyPI package `supervisor`): it has a section [{section}]"
    return f"this program reads no configuration file, so {path} is not used"


def _foreign_section(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFF_BYTES).decode("utf-8", errors="replace")
    except OSError:
        # The message is true for a file that cannot be read, too.
        return None
    found = _SECTION.search(head)
    return found.group(1) if found else None


def _text(program: str, fact: str) -> str:
    return (
        f"{program}: {fact}\n"
        f"  This {program} belongs to sweep-supervisor, which runs long searches; it is not the process manager "
        "of the same name.\n"
        f"  cure: {_INSTEAD[program]}"
    )
