"""A trainable that prints, for test_prints.py; workers import it by name."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from ray import tune

from tests import waits


def prints(config):
    """Print from Python, C and a child; between two reports do what `kind` says."""
    kind = config["kind"]
    print(f"{kind} by python")
    ctypes.CDLL(None).puts(f"{kind} by c".encode())
    subprocess.run(["echo", f"{kind} by a child"], check=True)
    print(f"{kind} password=hush-hush", file=sys.stderr)
    tune.report({"loss": 0.5})
    if kind == "raises":
        print(f"{kind} now")
        raise ValueError("made to fail")
    if kind == "dies" and not Path(config["folder"], "died").exists():
        Path(config["folder"], "died").touch()
        sys.stdout.write(f"{kind} now")
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "floods":
        # PyDLL keeps Python's lock: a thread that reads the pipe in this process would wait for ever.
        ctypes.PyDLL(None).write(1, b"floods on\n" * 100_000, 1_000_000)
    if kind == "pumpless":
        _kill_the_pump(f"{kind} password=")
        print(f"{kind} still")
    tune.report({"loss": 0.25})


def _kill_the_pump(said):
    """Kill the pump once it has kept what was `said`: what waits in its pipe would be lost with it."""
    pipe = Path("/proc/self/fd/1").readlink()
    for process in psutil.process_iter():
        try:
            if Path(f"/proc/{process.pid}/fd/0").readlink() == pipe:
                waits.until("the pump keeps the prints", lambda pid=process.pid: said in _kept_by(pid))
                process.kill()
                process.wait(60)
        except (psutil.Error, OSError):
            continue


def _kept_by(pid):
    """The text of the attempt's file that a pump has open; it opens it with the first print."""
    opened = [file.readlink() for file in Path(f"/proc/{pid}/fd").iterdir()]
    return "".join(path.read_text() for path in opened if path.name.startswith("attempt-"))
