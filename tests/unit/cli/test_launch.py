"""Test `start`: it returns the daemon's facts or its error, and leaves no process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import launch, supervisord
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.errors import AlreadyRunning, DaemonDied, NotRunning, SweepError
from supervisor.home import Home, find_home
from supervisor.home_lock import take_lock


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.state.mkdir()
    made.logs.mkdir()
    return made


def test_readiness_is_sent_once_and_survives_a_start_that_has_gone() -> None:
    read_fd, write_fd = os.pipe()
    ready = Readiness(write_fd)
    ready.send({"run": "one"})
    ready.send({"run": "two"})
    assert os.read(read_fd, 1000) == b'{"run": "one"}\n'
    assert os.read(read_fd, 1000) == b"", "the pipe is closed"
    os.close(read_fd)
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    Readiness(write_fd).send({"run": "one"})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_fd)


def start_instead(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` stand in for the daemon; sys.argv[1] is the descriptor for its answer."""
    monkeypatch.setattr(launch, "daemon_command", lambda fd: [sys.executable, "-c", script, str(fd)])


def test_start_sends_the_request_and_returns_the_daemons_facts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    start_instead(
        monkeypatch,
        "import json, os, sys; plan = json.load(sys.stdin)['plan'];"
        "os.write(int(sys.argv[1]), json.dumps({'run': plan, 'session': os.getsid(0), 'pid': os.getpid()}).encode());"
        "os.write(int(sys.argv[1]), b'\\n')",
    )
    facts = launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    assert facts["run"] == "smoke"
    assert facts["session"] == facts["pid"], "a session of its own: a closed terminal does not end it"


def test_a_daemon_that_refuses_gives_its_error_and_exit_code(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"error": "the plan has changed", "remedy": "--new", "exit_code": 6}
    line = json.dumps(facts).encode() + b"\n"
    start_instead(monkeypatch, f"import os, sys; os.write(int(sys.argv[1]), {line!r})")
    with pytest.raises(SweepError, match="the plan has changed") as refusal:
        launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    assert (refusal.value.remedy, refusal.value.exit_code) == ("--new", 6)


def test_a_daemon_that_dies_leaves_the_end_of_its_log(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    start_instead(monkeypatch, "for n in range(30): print('line', n, flush=True)\nraise SystemExit('out of luck')")
    with pytest.raises(DaemonDied, match="out of luck") as death:
        launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    assert "line 29" in str(death.value)
    assert "line 10\n" not in str(death.value), "only the last lines"
    start_instead(monkeypatch, "raise SystemExit('again')")
    with pytest.raises(DaemonDied, match="again") as death:
        launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    assert "out of luck" not in str(death.value), "only this daemon's lines"
    assert "out of luck" in (home.logs / "daemon.log").read_text(), "the end of the daemon before is still in the log"


def start_half(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a daemon write its pid and "half" of its answer, and go no further."""
    start_instead(
        monkeypatch,
        f"import os, pathlib, sys, time; pathlib.Path({str(home.root / 'pid')!r}).write_text(str(os.getpid()));"
        "os.write(int(sys.argv[1]), b'half'); time.sleep(3600)",
    )


def test_a_daemon_that_is_not_ready_in_time_is_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    start_half(home, monkeypatch)
    read_line = launch._read_line

    def impatient(fd: int, timeout_s: float) -> bytes | None:
        assert os.read(fd, 4) == b"half"
        return read_line(fd, 0.01)

    monkeypatch.setattr(launch, "_read_line", impatient)
    with pytest.raises(SweepError, match="not ready within 20 s"):
        launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((home.root / "pid").read_text()), 0)


def test_ctrl_c_during_the_start_leaves_no_half_started_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    start_half(home, monkeypatch)

    def interrupted(fd: int, timeout_s: float) -> bytes:
        assert os.read(fd, 4) == b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_read_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((home.root / "pid").read_text()), 0)


def test_the_daemon_has_one_arena_of_memory_and_its_children_the_usual(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_instead(
        monkeypatch,
        "import json, os, sys; from supervisor.processes.environment import passed_environment;"
        "facts = {'own': os.environ['MALLOC_ARENA_MAX'], 'child': 'MALLOC_ARENA_MAX' in passed_environment()};"
        "os.write(int(sys.argv[1]), json.dumps(facts).encode() + b'\\n')",
    )
    assert launch.start_daemon(home, StartRequest(plan="smoke"), 20.0) == {"own": "1", "child": False}


@pytest.mark.parametrize("named", ["sweeps", "./a/../sweeps", "~/sweeps"])
def test_a_relative_home_is_the_same_folder_for_start_and_for_its_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """The daemon works in another folder, where a relative path would mean another home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SWEEP_HOME", named)
    monkeypatch.setenv("PYTHONPATH", f"src{os.pathsep}/opt/lib")
    home = find_home()
    assert home.root == (tmp_path / "sweeps").resolve()
    home.logs.mkdir(parents=True)
    start_instead(
        monkeypatch,
        "import json, os, sys; facts = {key: os.environ[key] for key in ('SWEEP_HOME', 'PYTHONPATH')};"
        "os.write(int(sys.argv[1]), json.dumps(facts).encode() + b'\\n')",
    )
    facts = launch.start_daemon(home, StartRequest(plan="smoke"), 20.0)
    assert facts == {"SWEEP_HOME": str(home.root), "PYTHONPATH": f"{tmp_path}/src{os.pathsep}/opt/lib"}


FACTS = {"run": "smoke-1", "pid": 42, "socket": "s", "log": "l", "dashboard": None, "token_file": "t"}
AT_WORK = {"daemon": FACTS, "run": {"id": "smoke-1", "fingerprint": "f", "state": "RUNNING"}}


@pytest.fixture
def held(home: Home) -> Iterator[Home]:
    """A home whose lock a daemon has."""
    home.state.mkdir(parents=True, exist_ok=True)
    lock = take_lock(home, "plan smoke")
    yield home
    os.close(lock)


def test_a_start_of_the_plan_at_work_prints_its_facts_and_of_another_plan_is_refused(
    held: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "ask", lambda home, verb: AT_WORK)
    assert launch.already_running(held, StartRequest(plan="smoke", fingerprint="f"), 60.0)
    assert capsys.readouterr().out.startswith("already running:\nrun        smoke-1")
    assert launch.already_running(held, StartRequest(plan=None), 60.0)
    with pytest.raises(AlreadyRunning, match="daemon 42 works on smoke-1"):
        launch.already_running(held, StartRequest(plan="smoke", fingerprint="g"), 60.0)
    with pytest.raises(AlreadyRunning, match="daemon 42 works on smoke-1"):
        launch.already_running(held, StartRequest(plan="smoke", fingerprint="f", new=True), 60.0)


def test_a_start_with_http_opens_the_page_of_a_daemon_at_work_and_prints_its_address(
    held: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(home: Home, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return AT_WORK if verb == "status" else {"page": f"http://127.0.0.1:1/?{verb}={body and body['http']}"}

    monkeypatch.setattr(launch, "ask", ask)
    assert launch.already_running(held, StartRequest(plan=None, http="auto"), 60.0)
    assert "live page  http://127.0.0.1:1/?page=auto\n" in capsys.readouterr().out


def test_a_start_beside_a_daemon_that_is_starting_waits_for_its_answer(
    held: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def ask(home: Home, verb: str) -> dict[str, Any]:
        asked.append(verb)
        if len(asked) < 4:
            raise NotRunning
        return AT_WORK

    monkeypatch.setattr(launch, "ask", ask)
    assert launch.already_running(held, StartRequest(plan="smoke", fingerprint="f"), 60.0)
    assert len(asked) == 4
    assert capsys.readouterr().out.count("already running:") == 1


def test_a_start_beside_a_daemon_that_never_answers_names_it(held: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(home: Home, verb: str) -> dict[str, Any]:
        raise NotRunning

    monkeypatch.setattr(launch, "ask", absent)
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}, plan smoke\) has been starting or ending"):
        launch.already_running(held, StartRequest(plan=None), 0.0)


def test_a_free_home_has_no_daemon_to_wait_for(home: Home) -> None:
    assert not launch.already_running(home, StartRequest(plan=None), 0.0)


@pytest.mark.parametrize("same", [True, False])
def test_the_slower_of_two_simultaneous_starts_reports_the_run_of_the_quicker_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], same: bool
) -> None:
    """Both found the home free; the slower one's daemon then found it held."""
    locks: list[int] = []

    def beaten(*_: Any) -> dict[str, Any]:
        locks.append(take_lock(home, "plan smoke"))
        raise AlreadyRunning("this home is held by pid 42")

    home.state.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(launch, "start_daemon", beaten)
    monkeypatch.setattr(launch, "ask", lambda home, verb: AT_WORK)
    request = StartRequest(plan="smoke", fingerprint="f" if same else "g")
    try:
        if same:
            assert launch.launch(home, request, 60.0, foreground=False) == 0
            assert "already running:\nrun        smoke-1" in capsys.readouterr().out
        else:
            with pytest.raises(AlreadyRunning, match="daemon 42 works on smoke-1"):
                launch.launch(home, request, 60.0, foreground=False)
    finally:
        os.close(locks[0])


def test_the_hours_of_a_start_are_kept_to_the_last_digit(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that continues a stopped run must mean the same shares."""
    monkeypatch.setenv("SWEEP_HOME", str(home.root))
    taken: list[StartRequest] = []
    monkeypatch.setattr(launch, "launch", lambda home, request, *_, **__: taken.append(request) or 0)
    example = Path(__file__).parents[3] / "docs" / "examples" / "quadratic.yaml"
    assert supervisord.main(["start", str(example), "--hours", "33.333333333"]) == 0
    (request,) = taken
    options = request.hardware["options"]
    assert float(options[options.index("--hours") + 1]) == 33.333333333


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--extend", "2M-h1"], "expected EXPERIMENT=TRIALS or EXPERIMENT/TRIAL=EPOCHS"),
        (["--extend", "2M-h1/17=0"], "expected EXPERIMENT=TRIALS or EXPERIMENT/TRIAL=EPOCHS"),
        (["--extend", "2M-h1=5", "--extend", "2M-h1/17=5"], "expected experiments or trials, found both"),
        (["--extend", "2M-h1=5", "--anew"], "--anew needs --extend EXPERIMENT/TRIAL=EPOCHS"),
        (["--anew"], "--anew needs --extend EXPERIMENT/TRIAL=EPOCHS"),
    ],
)
def test_an_extension_that_says_not_what_is_refused_before_a_daemon_starts(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(home.root))
    monkeypatch.setattr(launch, "launch", lambda *_, **__: pytest.fail("a daemon was started"))
    assert supervisord.main(["start", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_extension_of_trials_reaches_the_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[StartRequest] = []
    monkeypatch.setenv("SWEEP_HOME", str(home.root))
    monkeypatch.setattr(launch, "launch", lambda _, request, *__, **___: asked.append(request) or 0)
    assert supervisord.main(["start", "--extend", "2M-h1/17=5", "--extend", "2M-h1/3=2", "--anew"]) == 0
    assert (asked[0].extend, asked[0].anew) == ({"2M-h1/17": 5, "2M-h1/3": 2}, True)
