"""Runs the verbs that look after store and log: backup, repair, audit. Each returns the exit code.

Standard library at import; a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from supervisor import __product__, __version__
from supervisor.cli.guide.progress import working
from supervisor.cli.watch import NO_RUN_REMEDY
from supervisor.control.client import ask
from supervisor.errors import NotFound, NotRunning
from supervisor.home import Home

BACKUP_DEADLINE_S = 300.0


def backup(home: Home, arguments: argparse.Namespace) -> int:
    path = arguments.file.absolute()
    with working("copying the store", quick=True):
        try:
            size = ask(home, "backup", {"path": str(path)}, deadline_s=BACKUP_DEADLINE_S)["bytes"]
        except NotRunning:
            from supervisor.audit.maintenance import back_up_without_daemon

            size = back_up_without_daemon(home, path)
    print(
        f"{path}: {size} bytes; to restore it: `supervisorctl shutdown`, delete {home.store}*, copy it to"
        f" {home.store}; the next start adds the later events of the logs"
    )
    return 0


def repair(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.audit.maintenance import examine
    from supervisor.clock import Clock
    from supervisor.home_lock import take_lock

    if not home.state.is_dir():
        raise NotFound(f"the home {home.root} has no store and no logs yet", remedy=NO_RUN_REMEDY)
    lock = take_lock(home)
    try:
        with working("reading store and logs", quick=True):
            findings = examine(home, Clock())
        for finding in findings:
            print(finding.what)
            print(f"  {'done' if arguments.apply else 'cure'}: {finding.apply() if arguments.apply else finding.cure}")
    finally:
        os.close(lock)
    if not findings:
        print("store and logs are sound and agree")
    elif not arguments.apply:
        print("nothing was changed: `supervisorctl repair --apply` carries out the cures")
    return int(bool(findings) and not arguments.apply)


def audit(home: Home, arguments: argparse.Namespace) -> int:
    import tempfile
    from dataclasses import asdict

    from supervisor.audit import evidence as audit_evidence
    from supervisor.audit import invariants
    from supervisor.store.database import read_only

    with (
        working("reading store, log and checkpoints", quick=True),
        tempfile.TemporaryDirectory(prefix="sweep-audit-") as folder,
    ):
        copy = Path(folder) / "store.db"
        try:
            # Only the daemon opens its store; other programs read a copy.
            ask(home, "backup", {"path": str(copy)}, deadline_s=BACKUP_DEADLINE_S)
        except NotRunning:
            if not home.store.exists():
                raise NotFound(f"the home {home.root} has no run yet", remedy=NO_RUN_REMEDY) from None
            copy = home.store
        with read_only(copy) as connection:
            live = copy != home.store
            evidence = audit_evidence.gather(home, connection, arguments.run_or_plan, live=live)
        verdicts = invariants.check(evidence)
    if arguments.json:
        print(
            json.dumps({"run": evidence.run, "verdicts": [asdict(v) | {"holds": v.holds} for v in verdicts]}, indent=1)
        )
    else:
        print(invariants.render(evidence, verdicts))
    return int(not all(verdict.holds for verdict in verdicts))


def version(home: Home, _: argparse.Namespace) -> int:
    folder = Path(__file__).resolve().parents[1]
    print(f"{__product__} {__version__}, {folder}, home {home.root}, socket {home.socket}")
    return 0
