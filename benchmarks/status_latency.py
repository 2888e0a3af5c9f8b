"""Measure a cold `supervisorctl status` beside the commands that its users know, and on a large run.

    python -m benchmarks.status_latency [--rounds 30] [--trials 10000] [--lines 1000000] [--supervisor FOLDER]

One round starts each command once, in turn: `python -c pass`; our status of a run of 12 experiments; our status of a
run with 10,000 trials and a log of 1,000,000 lines, of which a result is new each time; `ray status` of a running head;
`optuna studies` of a database with 12 studies; and, with `--supervisor`, `supervisorctl status` of the process manager
of the same name (PyPI's supervisor) with 12 processes. FOLDER is a virtual environment with it, made by
`python -m venv FOLDER && FOLDER/bin/pip install supervisor`: it cannot live in ours. Figures are medians, and medians
of each round's ratio to `python -c pass`. In our daemon's place the real control server answers from a real store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.stages.big_run import AT_WORK, RUN, write_log, write_run
from benchmarks.stages.stand_in import StandIn, view
from supervisor.clock import Clock
from supervisor.control.server import ControlServer
from supervisor.domain import messages
from supervisor.home import Home
from supervisor.processes.ray_head import free_port
from supervisor.store.database import Store
from supervisor.store.status_cache import StatusView
from supervisor.store.trial_writer import TrialWriter

BIN = Path(sys.executable).parent
WARM_UP_ROUNDS = 2
PROCESSES = 12


@dataclass
class Contender:
    """A command to start in each round."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class Large(StandIn):
    """Answers from a store in which a trial has reported since the last answer."""

    def __init__(self, home: Home, shown: dict[str, Any], trials: int) -> None:
        super().__init__(shown)
        self._home, self._shown, self._trials, self._step = home, shown, trials, 1
        self._seen: tuple[StatusView, TrialWriter] | None = None

    def status(self, trials: bool) -> dict[str, Any]:
        if self._seen is None:
            # Opened by the first answer, since SQLite's connections belong to a thread.
            store = Store(self._home.store, Clock())
            self._seen = StatusView(store.connection, RUN), TrialWriter(store, RUN)
        seen, writer = self._seen
        self._step += 1
        report = messages.ResultReported(self._trials, 1, self._step, 0.65, {"time_this_iter_s": 1.5}, None)
        assert writer.handle(AT_WORK, report)
        return {**self._shown, **seen.now()}


@contextlib.contextmanager
def answering(home: Home, stand_in: StandIn) -> Iterator[None]:
    """Let a control server answer on the home's socket."""
    loop, over, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        server = ControlServer(home, Clock(), stand_in, lambda uid: None, lambda: None)
        await server.open()
        listening.set()
        await over.wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert listening.wait(60.0)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def home_in(folder: Path) -> Home:
    home = Home(folder.resolve())
    home.prepare()
    return home


def ours(name: str, home: Home) -> Contender:
    return Contender(name, [str(BIN / "supervisorctl"), "status"], {"SWEEP_HOME": str(home.root)})


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Terminate the process at the end, and wait for it."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ray_status(folder: Path, stack: ExitStack) -> Contender:
    """Start a Ray head with its own ports and folder; return the command that shows it."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    token = secrets.token_hex(32)
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    head = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
            "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--num-cpus=1", f"--temp-dir={folder}",
            "--object-store-memory=100000000", "--disable-usage-stats",
        ],
        env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    stack.enter_context(ended(head))
    contender = Contender("ray status", [str(BIN / "ray"), "status", f"--address={address}"], environment)
    _until_it_answers(contender)
    return contender


def optuna_studies(folder: Path) -> Contender:
    """Return `optuna studies` on a database with as many studies as phase6a has experiments."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{folder}/studies.db"
    for number in range(PROCESSES):
        optuna.create_study(storage=url, study_name=f"study-{number}")
    return Contender("optuna studies", [str(BIN / "optuna"), "studies", "--storage", url])


def process_manager(environment: Path, folder: Path, stack: ExitStack) -> Contender:
    """Start PyPI's supervisord with 12 sleeping processes; return its own status command."""
    programs = "".join(f"[program:p{n}]\ncommand=sleep 3600\n" for n in range(PROCESSES))
    conf = folder / "supervisord.conf"
    conf.write_text(
        f"[unix_http_server]\nfile={folder}/s.sock\n[supervisord]\nnodaemon=true\nlogfile={folder}/log\n"
        f"pidfile={folder}/pid\nchildlogdir={folder}\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{folder}/s.sock\n{programs}"
    )
    manager = subprocess.Popen(
        [str(environment / "bin" / "supervisord"), "-c", str(conf)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    stack.enter_context(ended(manager))
    command = [str(environment / "bin" / "supervisorctl"), "-c", str(conf), "status"]
    contender = Contender("supervisorctl status of PyPI's supervisor", command)
    _until_it_answers(contender)
    return contender


def _until_it_answers(contender: Contender, tries: int = 60) -> None:
    for _ in range(tries):
        answer = subprocess.run(
            contender.command,
            env={**os.environ, **contender.environment},
            capture_output=True,
            check=False,
            timeout=60.0,
        )
        if answer.returncode == 0:
            return
    raise SystemExit(f"{contender.name} does not answer: {answer.stderr.decode(errors='replace')[-500:]}")


def seconds(command: list[str], environment: dict[str, str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun_s


def measure(contenders: list[Contender], rounds: int) -> list[list[float]]:
    """Return the seconds of each contender in each round. Each is compiled once, in the rounds that do not count."""
    as_installed = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = [
        [seconds(one.command, {**as_installed, **one.environment}) for one in contenders]
        for _ in range(WARM_UP_ROUNDS + rounds)
    ]
    return found[WARM_UP_ROUNDS:]


def prepared(folder: Path, arguments: argparse.Namespace, stack: ExitStack) -> list[Contender]:
    small, large = home_in(folder / "small"), home_in(folder / "large")
    write_run(large, arguments.trials)
    write_log(large, arguments.lines)
    shown = view(small)
    stack.enter_context(answering(small, StandIn(shown)))
    stack.enter_context(answering(large, Large(large, shown, arguments.trials)))
    found = [
        Contender("python -c pass", [sys.executable, "-c", "pass"]),
        ours("supervisorctl status", small),
        ours(f"... of {arguments.trials:,} trials, {arguments.lines:,} lines", large),
        ray_status(folder / "ray", stack),
        optuna_studies(folder),
    ]
    return [*found, process_manager(arguments.supervisor, folder, stack)] if arguments.supervisor else found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--supervisor", type=Path, help="a virtual environment with PyPI's supervisor")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sb", dir="/tmp") as name, ExitStack() as stack:
        contenders = prepared(Path(name).resolve(), arguments, stack)
        found = measure(contenders, arguments.rounds)
    print(f"{machine()}; medians of {arguments.rounds} rounds, ratios to python -c pass")
    for place, one in enumerate(contenders):
        times, ratios = [row[place] for row in found], [row[place] / row[0] for row in found]
        print(f"{one.name:45} {1e3 * statistics.median(times):8.1f} ms {statistics.median(ratios):7.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
