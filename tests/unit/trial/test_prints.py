"""A worker's descriptors lead to the file of its attempt: real processes, pipes and kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from actors.trial.pumps import PARENT, PUMP, PumpParent
from supervisor.processes import orphans
from supervisor.processes.environment import OWNER, SERVES
from supervisor.processes.print_pump import FRAME_BYTES
from tests.waits import NET_S, until

ROOT = Path(__file__).resolve().parents[3]
WORKER = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from actors.trial import prints, pumps
from actors.trial.prints import MAX_PUMPS, PRINTS, WorkerPrints
pumps.START_WITHIN_S = prints.SETTLE_S = {net}
for line in sys.stdin:
    exec(line)
    os.write({answers}, b".")
"""


class Worker:
    """A process that does what it is told, a line of Python at a time."""

    def __init__(self) -> None:
        self._answers, writes = os.pipe()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", WORKER.format(answers=writes, net=NET_S)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            pass_fds=(writes,),
        )  # fmt: skip
        os.close(writes)

    def tell(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(code.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, code: str) -> None:
        self.tell(code)
        assert os.read(self._answers, 1) == b".", f"it died of {code}"

    def begin(self, path: Path) -> None:
        self.do(f"PRINTS.begin(Path({str(path)!r}))")

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self._answers)


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.close()


def processes_of(path: Path) -> list[psutil.Process]:
    """The pumps that write to `path`, and their starters."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(path) in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def pumps_of(path: Path) -> list[psutil.Process]:
    """Those that are at work: a starter is the leader of its session."""
    found = []
    for process in processes_of(path):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) != process.pid:
                found.append(process)
    return found


def all_are_gone(path: Path) -> None:
    until("the pumps have ended", lambda: not processes_of(path))


def serving(worker: Worker) -> list[psutil.Process]:
    """The pumps of a worker, and their parent."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(SERVES) == str(worker.process.pid) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def parents_of_pumps(worker: Worker) -> list[psutil.Process]:
    """Those that no other of them has begun, as each pump of theirs."""
    found = [process for process in serving(worker) if list(PARENT) == process.cmdline()]
    return [process for process in found if process.ppid() not in {other.pid for other in found}]


def none_serves(worker: Worker) -> None:
    until("the pumps and their parent have ended", lambda: not serving(worker))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_each_attempt_has_its_own_prints_of_python_c_and_children(worker, tmp_path):
    first, second = tmp_path / "3" / "attempt-1.log", tmp_path / "4" / "attempt-1.log"
    for path in (first, second):
        worker.begin(path)
        worker.do(f"print('python', {path.parent.name})")
        worker.do("print('error', file=sys.stderr)")
        worker.do("ctypes.CDLL(None).puts(b'c')")
        worker.do("_ = os.write(2, b'descriptor\\n')")
        worker.do("subprocess.run(['echo', 'child'], check=True)")
    assert worker.end() == 0
    none_serves(worker)
    for path, number in ((first, 3), (second, 4)):
        assert lines(path) == [f"python {number}", "error", "c", "descriptor", "child"]


def test_a_worker_that_begins_and_ends_at_once_has_its_prints(worker, tmp_path):
    """Ray ends the children of a worker with it: by then the pump is none."""
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    assert psutil.Process(worker.process.pid).children() == []
    worker.tell("print('short'); os.kill(os.getpid(), signal.SIGKILL)")
    worker.process.wait()
    all_are_gone(path)
    assert lines(path) == ["short"]


def test_all_that_was_printed_before_a_kill_is_there(worker, tmp_path):
    """Also what C code has not flushed, and half a line."""
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    worker.tell(
        "ctypes.CDLL(None).puts(b'c'); print('last'); sys.stdout.write('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert worker.process.wait() == -signal.SIGKILL
    all_are_gone(path)
    assert lines(path) == ["c", "last", "half"]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (
            "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()",
            "Fatal Python error: Segmentation fault",
        ),
        ("os.abort()", "before"),
        ("import atexit; atexit.register(print, 'at exit'); sys.exit(0)", "at exit"),
    ],
)
def test_the_last_words_of_a_process_are_there(worker, tmp_path, end, last):
    """Those of faulthandler, which writes to the descriptor; of functions at exit."""
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    worker.do("print('before')")
    worker.tell(end)
    worker.process.wait()
    all_are_gone(path)
    assert lines(path)[0] == "before"
    assert last in lines(path)


def test_a_pipe_that_a_child_made_one_that_does_not_wait_takes_every_byte(worker, tmp_path):
    """Node.js does so to its standard output, which is the worker's."""
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    worker.do("os.set_blocking(1, False)")
    worker.do("print('x' * 500000)")
    worker.do("print('end')")
    assert worker.end() == 0
    all_are_gone(path)
    assert lines(path) == ["x" * 500000, "end"]


def test_a_pump_that_ends_at_once_makes_no_print_fail(worker, tmp_path):
    worker.do(f"other = WorkerPrints([sys.executable, '-c', '']); other.begin(Path({str(tmp_path / 'f')!r}))")
    for _ in range(20):
        worker.do("print('x' * 100000)")
    worker.do("other.settle()")
    assert worker.end() == 0


def test_the_pump_of_a_worker_that_is_ended_as_an_orphan_is_one_too_and_writes_all(worker, tmp_path):
    path, key = tmp_path / "attempt-1.log", f"test-{os.getpid()}"
    worker.do(f"os.environ[{OWNER!r}] = {key!r}")
    worker.begin(path)
    worker.do("print('last', end='')")
    (pump,) = until("a pump is at work", lambda: pumps_of(path))
    assert pump in orphans.find(key)
    assert pump not in orphans.find(key, orphans_only=True)
    # This process stands for the dead daemon's next one; the worker's own environment was set too late to be found.
    worker.process.terminate()
    orphans.end(key, grace_s=600.0)
    # Where the first process of a container reaps nobody, an ended one stays a zombie.
    assert not pump.is_running() or pump.status() == psutil.STATUS_ZOMBIE
    assert lines(path) == ["last"]


def test_c_code_that_fills_the_pipe_with_pythons_lock_held_does_not_wait_for_ever(worker, tmp_path):
    """PyDLL keeps the lock: a thread that reads in this process would never get it."""
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    worker.do("data = b'x' * 99 + b'\\n'")
    worker.do("assert ctypes.PyDLL(None).write(1, data * 10000, 1000000) > 65536")
    assert worker.end() == 0
    all_are_gone(path)
    assert path.stat().st_size > 65536


def kill_pump(path: Path) -> None:
    for process in until("a pump is at work", lambda: pumps_of(path)):
        process.kill()
    all_are_gone(path)


def test_a_pump_that_is_killed_is_replaced_and_no_print_fails(worker, tmp_path):
    path = tmp_path / "attempt-1.log"
    worker.begin(path)
    worker.do("print('before')")
    until("it is written", lambda: lines(path) == ["before"])
    kill_pump(path)
    worker.do("print('between')")
    worker.do("subprocess.run(['echo', 'child'], check=True)")
    until("it is written", lambda: lines(path) == ["before", "between", "child"])
    kill_pump(path)
    worker.do("assert ctypes.CDLL(None).puts(b'lost') or True")
    worker.do("PRINTS.mend()")
    worker.do("_ = os.write(1, b'after\\n')")
    assert worker.end() == 0
    all_are_gone(path)
    # Whether C tries again with what it could not write is its own affair.
    assert [line for line in lines(path) if line != "lost"] == ["before", "between", "child", "after"]


def test_a_pump_that_is_killed_again_and_again_is_given_up_until_the_next_attempt(worker, tmp_path):
    path, later = tmp_path / "attempt-1.log", tmp_path / "attempt-2.log"
    worker.begin(path)
    for _ in range(5):
        kill_pump(path)
        worker.do("print('again')")
    worker.do("print('x' * 1000000)")
    worker.do("PRINTS.settle()")
    assert not processes_of(path)
    worker.begin(later)
    worker.do("print('here')")
    assert worker.end() == 0
    none_serves(worker)
    assert lines(later) == ["here"]


def test_the_pumps_of_later_attempts_are_forks_of_one_parent_that_ends_with_the_worker(worker, tmp_path):
    paths = [tmp_path / f"attempt-{number}.log" for number in (1, 2, 3)]
    for path in paths:
        worker.begin(path)
        assert psutil.Process(worker.process.pid).children() == [], "Ray ends the children of a worker with it"
        worker.do(f"print({path.name!r})")
        until("it is written", lambda path=path: lines(path) == [path.name])
    (parent,) = parents_of_pumps(worker)
    until("the last attempt has the only pump", lambda: len(parent.children()) == 1)
    assert {process.pid for process in serving(worker)} == {parent.pid, parent.children()[0].pid}
    worker.tell("print('last', end=''); os.kill(os.getpid(), signal.SIGKILL)")
    none_serves(worker)
    assert lines(paths[-1]) == [paths[-1].name, "last"]


def test_a_worker_whose_pumps_have_lost_their_parent_prints_on(worker, tmp_path):
    """The pump at work lives on; the next attempt begins its own, and the one after that has a parent again."""
    paths = [tmp_path / f"attempt-{number}.log" for number in (1, 2, 3, 4)]
    for path in paths:
        worker.begin(path)
        worker.do("print('before')")
        until("it is written", lambda path=path: lines(path) == ["before"])
        if path == paths[1]:
            (parent,) = parents_of_pumps(worker)
            parent.kill()
            until("it has ended", lambda parent=parent: parent not in serving(worker))
        worker.do("print('after')")
        until("it is written", lambda path=path: lines(path) == ["before", "after"])
    assert [process for process in parents_of_pumps(worker) if process.children()]
    assert worker.end() == 0
    none_serves(worker)


def test_a_secret_that_an_earlier_trial_has_set_is_hidden_in_later_ones(worker, tmp_path):
    paths = [tmp_path / f"attempt-{number}.log" for number in (1, 2, 3)]
    for path in paths:
        worker.begin(path)
    worker.do("os.environ['HUB_TOKEN'] = '0123456789abcdef'")
    worker.begin(paths[1])
    worker.do("print('it is 0123456789abcdef')")
    assert worker.end() == 0
    none_serves(worker)
    assert lines(paths[1]) == ["it is ***"]


def test_a_path_that_fits_no_request_is_refused_before_anything_is_started():
    with pytest.raises(OSError, match="too long"):
        PumpParent().begin(Path("/" + "x" * FRAME_BYTES), 0)


def test_a_child_of_a_fork_prints_where_it_was_forked_and_does_not_hold_the_next_attempt(worker, tmp_path):
    first, second = tmp_path / "attempt-1.log", tmp_path / "attempt-2.log"
    worker.begin(first)
    go = f"Path({str(tmp_path / 'go')!r})"
    waits = f"[time.sleep(0.01) for _ in iter({go}.exists, True)]"
    worker.do(f"child = os.fork(); child or ({waits}, print('child'), os._exit(0))")
    worker.begin(second)
    worker.do("print('parent')")
    until("the next one is written", lambda: lines(second) == ["parent"])
    (tmp_path / "go").touch()
    worker.do("os.waitpid(child, 0)")
    all_are_gone(first)
    assert lines(first) == ["child"]
    assert lines(second) == ["parent"]


def test_a_pump_that_cannot_be_started_costs_the_prints_only(worker, tmp_path):
    worker.do(f"other = WorkerPrints(['/no/such/program']); other.begin(Path({str(tmp_path / 'f')!r}))")
    worker.do("print('x' * 1000000); other.mend(); other.settle()")
    assert worker.end() == 0
    assert not (tmp_path / "f").exists()


def test_the_worker_does_not_wait_for_the_pumps_own_start(worker, tmp_path):
    """On a busy machine that takes seconds; what is printed meanwhile waits in the pipe."""
    path, go = tmp_path / "attempt-1.log", tmp_path / "go"
    slow = f'while [ ! -e "{go}" ]; do sleep 0.01; done; exec cat > "$0"'
    worker.do(f"other = WorkerPrints(['/bin/sh', '-c', {slow!r}]); other.begin(Path({str(path)!r}))")
    worker.do("print('early')")
    assert not path.exists()
    go.touch()
    worker.do("other.settle()")
    assert worker.end() == 0
    all_are_gone(path)
    assert lines(path) == ["early"]


def test_the_pump_loads_neither_the_environments_packages_nor_the_folder_it_is_started_in(tmp_path):
    """A folder of the user's may have a module of any name."""
    (tmp_path / "re.py").write_text("raise SystemExit(3)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    with subprocess.Popen([*PUMP, str(tmp_path / "f")], stdin=subprocess.PIPE, cwd=tmp_path, env=environment) as pump:
        assert pump.stdin is not None
        pump.stdin.write(b"line\n")
        pump.stdin.close()
        assert pump.wait() == 0
    assert lines(tmp_path / "f") == ["line"]


def test_a_file_that_cannot_be_written_blocks_nothing(worker, tmp_path):
    (tmp_path / "17").write_text("a file where the folder should be")
    path = tmp_path / "17" / "attempt-1.log"
    worker.begin(path)
    worker.do("print('x' * 1000000)")
    assert worker.end() == 0
    all_are_gone(path)


def test_a_descriptor_that_the_users_code_has_sent_elsewhere_stays_there(worker, tmp_path):
    path, elsewhere = tmp_path / "attempt-1.log", tmp_path / "elsewhere"
    worker.begin(path)
    worker.do(f"_ = os.dup2(os.open({str(elsewhere)!r}, os.O_WRONLY | os.O_CREAT), 1)")
    kill_pump(path)
    worker.do("PRINTS.mend(); print('mine'); print('ours', file=sys.stderr)")
    assert worker.end() == 0
    all_are_gone(path)
    assert (lines(elsewhere), lines(path)) == (["mine"], ["ours"])
