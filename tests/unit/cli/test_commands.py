"""`supervisorctl` and `supervisord` without a daemon: exit codes, messages, and no effect of bad input."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

import supervisor
from supervisor.audit.log import AuditLog
from supervisor.cli import maintenance, supervisorctl, supervisord
from supervisor.cli.watch import last_view
from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import NotFound, NotRunning
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.cli.finished_run import finished_run
from tests.waits import NET_S


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 4), (["status", "--json"], 4), (["pause"], 7), (["pause", "--now"], 7), (["resume"], 7),
        (["finish"], 7), (["end", "17"], 7), (["skip", "2M-h1"], 7), (["set", "a=1"], 7), (["stop"], 7),
        (["enqueue", "a", "{x: 1}"], 7), (["extend", "a", "--trials", "1"], 7),
        (["reread"], 7), (["reread", "--apply"], 7), (["next", "a"], 7),
        (["discard", "1"], 7), (["restore", "1"], 7),
        (["shutdown"], 7), (["drill", "heat"], 7), (["tail"], 2), (["tail", "smoke"], 2), (["wait"], 2),
        (["log", "17"], 2), (["report"], 2), (["trials"], 2), (["best"], 2), (["history"], 2),
        (["predict", "a", "b.csv"], 2), (["dashboard"], 7), (["dashboard", "--token"], 2), ([], 2),
    ],
)  # fmt: skip
def test_without_a_daemon_each_verb_has_its_exit_code_and_makes_nothing(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert supervisorctl.main(arguments) == code
    said = capsys.readouterr()
    assert ("cure:" in said.err and str(home.root) in said.err) or not arguments
    assert list(home.root.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"], ["status", "--colour"], ["tail", "-n", "-1"], ["tail", "-n", "many"], ["tail", "-n", "9999999"],
        ["tail", "--trial", "x"], ["tail", "--level", "loud"], ["wait", "--timeout", "soon"], ["drill"], ["log"],
        ["log", "x"], ["log", "17", "--attempt", "last"],
    ],
)  # fmt: skip
def test_bad_arguments_end_with_2_and_the_usage(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        supervisorctl.main(arguments)
    assert end.value.code == 2
    assert "usage: supervisorctl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "cure"),
    [
        (supervisorctl, ["statsu"], "did you mean status?"),
        (supervisorctl, ["shutdwon"], "did you mean shutdown?"),
        (supervisorctl, ["check", "smoke"], "`supervisord check`"),
        (supervisorctl, ["restart", "all"], "`supervisorctl shutdown`, then `supervisord start`"),
        (supervisorctl, ["tail", "--evnet", "x"], "did you mean --event?"),
        (supervisorctl, ["completion", "zhs"], "did you mean zsh?"),
        (supervisord, ["strat", "smoke"], "did you mean start?"),
        (supervisord, ["pause", "--now"], "`supervisorctl pause`"),
        (supervisorctl, ["avail"], "`supervisord plans`"),
        (supervisorctl, ["signal", "HUP"], "`supervisorctl pause`"),
        (supervisord, ["data", "lst"], "did you mean list?"),
        (supervisord, ["start", "smoke", "--dryrun"], "did you mean --dry-run?"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(
    home: Home, capsys: pytest.CaptureFixture[str], command: ModuleType, arguments: list[str], cure: str
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert cure in capsys.readouterr().err.partition("cure: ")[2]


def test_a_plan_behind_http_is_not_taken_for_its_port(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisord.main(["start", "--http", "smoke"]) == 2
    said = capsys.readouterr().err
    assert "found 'smoke'" in said
    assert "--http after the plan" in said


def test_a_word_like_no_other_gets_the_list_and_no_guess(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        supervisorctl.main(["xyzzy"])
    said = capsys.readouterr().err
    assert "status" in said
    assert "did you mean" not in said
    assert "cure: `supervisorctl --help`" in said


@pytest.mark.parametrize("command", [supervisorctl, supervisord])
def test_ctrl_c_raises_again_once_a_verb_is_parsed(
    home: Home, monkeypatch: pytest.MonkeyPatch, command: ModuleType
) -> None:
    """Before that the launcher lets it end the process without a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert command.main([]) == 2
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_version_names_the_folder_of_the_whole_package(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisorctl.main(["version"]) == 0
    assert (
        f", {Path(supervisor.__file__).resolve().parent}, home {home.root}, socket {home.socket}"
        in capsys.readouterr().out
    )


def test_status_without_a_daemon_shows_the_last_run_and_still_ends_with_4(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(home).close()
    assert supervisorctl.main(["status"]) == 4
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split()[:3] == ["2M-h1", "EXITED", "1/1"]
    assert f"no daemon is running: the run has ended (home {home.root})" in said.err
    assert supervisorctl.main(["status", "--json"]) == 4
    shown = json.loads(capsys.readouterr().out)
    assert shown["experiments"][0]["trials"][0]["value"] == 0.25


def test_the_store_is_not_read_while_a_daemon_holds_the_home(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the daemon may read the store while it lives."""
    finished_run(home).close()
    lock = take_lock(home)
    try:
        assert supervisorctl.main(["status"]) == 4
        with pytest.raises(NotRunning, match="does not answer"):
            last_view(home)
    finally:
        os.close(lock)
    assert "does not answer" in capsys.readouterr().err


def test_the_last_view_finds_runs_by_id_and_by_plan_and_refuses_others(home: Home) -> None:
    finished_run(home).close()
    finished_run(home, "mine-1", "mine").close()
    assert last_view(home)["run"]["id"] == "mine-1"
    assert last_view(home, "smoke")["run"]["id"] == "smoke-1"
    assert last_view(home, "smoke-1")["run"]["id"] == "smoke-1"
    assert "trials" not in last_view(home, trials=False)["experiments"][0]
    for asked, cure in (("phase6a", "there are mine, smoke, mine-1, smoke-1"), ("smokee", "did you mean smoke?")):
        with pytest.raises(NotFound, match=f"no run or plan '{asked}'") as refusal:
            last_view(home, asked)
        assert refusal.value.remedy == cure
    with pytest.raises(NotFound, match="no run yet"):
        last_view(Home(home.root / "elsewhere"))


def test_a_store_that_is_damaged_is_a_clear_error(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(home).close()
    home.store.write_bytes(b"not a database at all" * 1000)
    assert supervisorctl.main(["status"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_tail_shows_the_last_events_as_lines_when_piped_and_filters_them(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(home).close()
    assert supervisorctl.main(["tail", "-n", "2"]) == 0
    shown = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["experiment.finished", "run.finished"]
    assert supervisorctl.main(["tail", "smoke", "--event", "trial.*", "--trial", "0"]) == 0
    shown = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["trial.added", "trial.started", "trial.reported", "trial.finished"]
    assert supervisorctl.main(["tail", "-n", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert supervisorctl.main(["tail", "-n", "1", "--event", "trial.added", "--utc"]) == 0
    assert re.match(r"(\S+ )?\d\d:\d\d:\d\d UTC  2M-h1: trial 0 added", capsys.readouterr().out)
    assert supervisorctl.main(["tail", "-n", "1", "--pretty", "--trial", "2M-h1/0"]) == 0
    assert "trial 0 finished: 0.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], ["no log at", "did you mean smoke?"]),
        (["mine"], ["no log at", "there are logs of smoke"]),
        (["--event", "trial.ended"], ["no event has the name 'trial.ended'", "did you mean trial."]),
        (["--experiment", "20M-*"], ["has no experiment '20M-*'; there are 2M-h1"]),
        (["--trial", "9"], ["has no trial 9; there are 0 to 0"]),
        (["--trial", "3M/0"], ["has no experiment '3M'"]),
        (["--experiment", "20M-*", "--trial", "2M-h1/0"], ["--trial 2M-h1/0 is not of --experiment 20M-*"]),
    ],
)
def test_tail_tells_an_unknown_name_from_one_without_lines(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    finished_run(home).close()
    assert supervisorctl.main(["tail", *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert supervisorctl.main(["tail", "--event", "trial.failed"]) == 0
    assert "no line of" in capsys.readouterr().err


def test_tail_chooses_by_time_level_and_text(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    store = finished_run(home)
    RunWriter(store, "smoke-1").record("report.failed", error="no font")
    with closing(AuditLog(home.audit_log("smoke"))) as log:
        log.catch_up(store, "smoke")
    store.close()
    for arguments, events in (
        (["--level", "warning"], ["report.failed"]),
        (["--grep", "no (font|paper)"], ["report.failed"]),
        (["--since", "1h", "--grep", "^trial 0 (added|started)"], ["trial.added", "trial.started"]),
        (["--since", "1h", "-n", "1"], ["report.failed"]),
        (["--since", "2100-01-01"], []),
    ):
        assert supervisorctl.main(["tail", *arguments]) == 0
        assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == events
    assert supervisorctl.main(["tail", "--since", "1h"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(home.audit_log("smoke").read_text().splitlines())
    for arguments, word in ((["--since", "soon"], "30m"), (["--grep", "("], "no regular expression")):
        assert supervisorctl.main(["tail", *arguments]) == 2
        assert word in capsys.readouterr().err


def test_tail_ends_well_when_its_reader_closes_the_pipe(home: Home) -> None:
    store = finished_run(home)
    for _ in range(10):
        RunWriter(store, "smoke-1").record("report.failed", error="x" * 40_000)
    log = AuditLog(home.audit_log("smoke"))
    log.catch_up(store, "smoke")
    store.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.supervisorctl", "tail", "-n", "500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(NET_S), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_wait_after_the_end_prints_the_table_and_has_the_runs_exit_code(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    store = finished_run(home)
    assert supervisorctl.main(["wait"]) == 0
    assert "2M-h1" in capsys.readouterr().out
    with store.change() as change:
        change.execute("UPDATE experiment SET state = 'FATAL', reason = 'out of luck'")
    store.close()
    assert supervisorctl.main(["wait"]) == 1


@pytest.mark.parametrize(
    ("moves", "stopped", "words"),
    [
        ([], False, "it died while the run was RUNNING; `supervisord start` resumes it"),
        (["STOPPING"], True, "it died while the run was STOPPING; `supervisord start smoke --only 2M` resumes it"),
        (["STOPPING", "STOPPED"], True, "the run is stopped; `supervisord start smoke --only 2M` resumes it"),
        (["STOPPING", "STOPPED"], False, "it was shut down; `supervisord start` resumes it"),
    ],
)
def test_wait_and_status_say_the_same_of_a_run_without_a_daemon(
    home: Home, capsys: pytest.CaptureFixture[str], moves: list[str], stopped: bool, words: str
) -> None:
    finished_run(home).close()
    store = Store(home.store, Clock())
    spec = {"name": "a", "mode": "min", "metric": "loss", "max_trials": 1, "concurrency": 1, "axes": {}}
    create_run(
        store, "smoke-2", plan="smoke", fingerprint="f", source="built-in", plan_text="",
        hardware={"options": ["--only", "2M"]}, data={}, specs=[spec],
    )  # fmt: skip
    writer = RunWriter(store, "smoke-2")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    if stopped:
        writer.record("run.stopped", who="ann")
    for move in moves:
        writer.move_run(ProcessState(move))
    store.close()
    assert supervisorctl.main(["wait"]) == 1
    waited = capsys.readouterr()
    assert f"no daemon is running: {words}" in waited.err
    assert supervisorctl.main(["status"]) == 4
    told = capsys.readouterr()
    assert f"no daemon is running: {words}" in told.err
    assert "RUNNING" not in waited.out + told.out


@pytest.mark.parametrize("command", [supervisorctl, supervisord])
def test_each_verb_of_a_command_names_a_function_that_exists(command: ModuleType) -> None:
    """The names are resolved only when a verb runs."""
    (verbs,) = (action for action in command.build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for parser in verbs.choices.values():
        module, _, name = parser.get_default("run").rpartition(".")
        assert callable(getattr(importlib.import_module(f"supervisor.cli.{module}"), name))


NEEDED = {
    "end": ["1"], "discard": ["1"], "restore": ["1"], "skip": ["a"], "set": ["a=1"], "next": ["a"],
    "enqueue": ["a", "{}"], "extend": ["a"], "drill": ["heat"], "backup": ["f"],
    "rm": ["x-1"], "completion": ["bash"], "log": ["17"], "export": ["--csv"],
    "compare": ["a", "b"], "predict": ["a", "b.csv"], "names": ["runs"],
}  # fmt: skip
"""The arguments without which a verb is not parsed."""


def test_a_verb_parses_alone_as_it_does_among_all(home: Home) -> None:
    for verb in supervisorctl.VERBS:
        whole, alone = supervisorctl.build_parser(), supervisorctl.build_parser(verb)
        arguments = [verb, *NEEDED.get(verb, [])]
        assert whole.parse_args(arguments) == alone.parse_args(arguments)


def test_an_encoding_without_a_letter_is_no_reason_for_a_traceback(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of an old locale has no degree sign, and no encoding has a part of a name that is no text."""
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)

    def version(*_: object) -> int:
        print("61 \N{DEGREE SIGN}C in a\udc80")
        return 0

    monkeypatch.setattr(maintenance, "version", version)
    assert supervisorctl.main(["version"]) == 0
    ascii_only.flush()
    assert ascii_only.buffer.getvalue() == b"61 ?C in a?\n"  # type: ignore[attr-defined]


def test_supervisord_without_a_verb_prints_its_help(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisord.main([]) == 2
    assert "start" in capsys.readouterr().out


def test_plans_lists_each_built_in_plan_with_its_experiments_and_trials(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supervisord.main(["plans"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"smoke", "phase6a", "phase6a-mini"} <= set(lines)
    assert " 12 experiments,  600 trials " in lines["phase6a"]
