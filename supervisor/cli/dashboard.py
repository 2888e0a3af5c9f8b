"""Runs the verb `dashboard`: the address of Ray's dashboard and how to log in, and Optuna's over a copy of the studies.

Standard library at import; a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor.cli.guide.progress import working
from supervisor.cli.show.views import run_view
from supervisor.control.client import ask
from supervisor.errors import NotFound, NotRunning, SweepError
from supervisor.home import Home

STUDY = "study.journal"
COPY_WITHIN_S = 120.0
END_WITHIN_S = 5.0
"""The time that Optuna's dashboard gets to end after Ctrl-C, before it is killed."""
OPTUNA_VERB = "supervisorctl dashboard --optuna"


def dashboard(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.token:
        print(_token(home))
        return 0
    if arguments.optuna:
        return _open_optuna(home, arguments)
    try:
        facts = ask(home, "status")["daemon"]
    except NotRunning as absent:
        absent.remedy = f"`supervisord start` begins or resumes a run; `{OPTUNA_VERB}` works without one"
        raise
    print("\n".join(text(facts)))
    return 0


def text(facts: dict[str, Any]) -> list[str]:
    """Return the lines about Ray's dashboard and Optuna's; `facts` are the daemon's.

    Ray's page knows the token from a pasted text only; `ray get-auth-token` reads a file of the user's own or fails.
    """
    address, taken = facts.get("dashboard"), facts.get("dashboard_port_taken")
    if address is None:
        return ["Ray     is not up now: it is starting, or waits to start again; `supervisorctl status` says so"]
    return [
        f"Ray     {address}" + (f" (its usual port {taken} is taken by another program)" if taken else ""),
        "login   paste what `supervisorctl dashboard --token` prints into the page's dialog, once in 30 days;",
        "        the command that the dialog names, `ray get-auth-token`, looks elsewhere: it fails here",
        "trials  Cluster page, unfold the node: a worker's name is ray::EXPERIMENT/TRIAL;",
        "        Actors page: a trial's actor has the experiment's name in the column Repr",
        f"Optuna  `{OPTUNA_VERB}` opens Optuna's dashboard on a copy of the studies",
    ]


def _token(home: Home) -> str:
    try:
        return home.ray_token.read_text().strip()
    except FileNotFoundError:
        raise NotFound(
            f"{home.ray_token} does not exist: Ray has not run in this home", remedy="`supervisord start PLAN` first"
        ) from None


def _open_optuna(home: Home, arguments: argparse.Namespace) -> int:
    """Copy the studies, and run Optuna's dashboard on the copy until Ctrl-C."""
    from supervisor.processes.ray_head import free_port

    program = optuna_program()
    folder = home.run_folder(run_view(home, arguments.run_or_plan, trials=False)["run"]["id"])
    journals = sorted(folder.glob(f"*/{STUDY}"))
    if not journals:
        raise NotFound(
            f"{folder} has no study yet, or `supervisorctl gc` has deleted it",
            remedy="wait for the first trial: `supervisorctl status` shows it",
        )
    with tempfile.TemporaryDirectory(prefix="sweep-studies-") as place:
        copy = Path(place) / "studies.journal"
        with working(f"copying {len(journals)} studies"):
            made = copied(copy, journals)
        for file, problem in made["problems"].items():
            print(f"left out: {file}: {problem}", file=sys.stderr)
        if not made["studies"]:
            raise SweepError(
                f"none of the {len(journals)} studies could be read",
                remedy="the search is not hurt; `supervisorctl report` shows its results",
            )
        port = free_port(arguments.port)
        command = optuna_command(program, copy, port)
        moved = "" if port == arguments.port else f" (port {arguments.port} is taken)"
        print(f"{made['studies']} studies, {made['trials']} trials at http://127.0.0.1:{port}/{moved}; Ctrl-C ends it")
        print(f"the command: {shlex.join(command)}", flush=True)
        return run_until_interrupted(command)


def optuna_program(folder: Path | None = None) -> str:
    """Return the path of optuna-dashboard: this installation's, else the one on PATH. Raises NotFound."""
    own = Path(sys.prefix, "bin") if folder is None else folder
    found = shutil.which("optuna-dashboard", path=str(own)) or shutil.which("optuna-dashboard")
    if found is None:
        raise NotFound(
            "optuna-dashboard is not installed", remedy=f"`{sys.executable} -m pip install 'optuna-dashboard>=0.18'`"
        )
    return found


def optuna_command(program: str, copy: Path, port: int) -> list[str]:
    """Return the command that opens a journal; its page is for this machine's users only."""
    return [
        program, "--host", "127.0.0.1", "--port", str(port), "--quiet", "--storage-class", "JournalFileStorage",
        str(copy),
    ]  # fmt: skip


def copied(target: Path, journals: Sequence[Path]) -> dict[str, Any]:
    """Copy the studies in a process of its own: only the actors know Optuna. Raises SweepError."""
    from supervisor.processes.environment import passed_environment
    from supervisor.processes.json_worker import python_module

    command = [*python_module("actors.driver.study_copy", str(target)), *map(str, journals)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=COPY_WITHIN_S, check=True, env=passed_environment()
        )
        made: dict[str, Any] = json.loads(answer.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise SweepError(
            f"the studies could not be copied: {' '.join(last)}",
            remedy="`supervisorctl doctor` checks the installation",
        ) from error
    return made


def run_until_interrupted(command: Sequence[str]) -> int:
    """Run a command until it ends or Ctrl-C, which is its usual end; return its exit code, 0 after Ctrl-C."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
