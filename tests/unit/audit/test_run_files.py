"""`gc` and `rm`: what old runs keep is listed, and deleted on request; never a live run's, never a report."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit import evidence, invariants, run_files
from supervisor.audit.log import AuditLog
from supervisor.cli import supervisorctl
from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.daemon.run_selection import choose_run
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict, NotFound
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store.database import Store, read_only
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.audit.rebuild_home import end_in_order, make_home
from tests.unit.store.evaluation_stage import OPENING
from tests.waits import NET_S

SPEC: dict[str, Any] = {
    "name": "x", "mode": "min", "max_trials": 1, "finalize": None, "trainable": "mine:f", "warm_start": None,
}  # fmt: skip
STAYS = (
    "plan.yaml", "report.html", "report.json", "results.csv", "figures/overview.png", "x/best.json",
    "x/predictions.json", "x/test-opened-1.json", "x/my-notes.txt",
)  # fmt: skip
GOES = (
    "ray.log", "ray.log.1", "x/driver.log", "x/study.journal", "x/0/checkpoint-3.pt", "x/0/best.pt",
    "x/1/checkpoint-2/weights.bin", "x/1/checkpoint-2/more/deep.bin", "x/1/hung-attempt-1.txt",
    "x/1/attempt-1.log",
)  # fmt: skip


def run_with_files(home: Home, store: Store, run: str, state: ProcessState | None, plan: str = "p") -> None:
    create_run(
        store, run, plan=plan, fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[SPEC]
    )
    writer = RunWriter(store, run)
    writer.move_run(ProcessState.STARTING)
    if state is ProcessState.STOPPED:
        writer.move_run(ProcessState.STOPPING)
    if state is not None:
        writer.move_run(state)
    for name in (*STAYS, *GOES):
        path = home.run_folder(run) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Two ended runs of plan p, a newer one of q that is stopped."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    home = make_home((tmp_path / "home").resolve())
    home.runs.mkdir(exist_ok=True)
    store = Store(home.store, Clock())
    run_with_files(home, store, "p-1", ProcessState.EXITED)
    run_with_files(home, store, "p-2", ProcessState.EXITED)
    end_in_order(home, store)
    store = Store(home.store, Clock())
    run_with_files(home, store, "q-1", ProcessState.STOPPED, "q")
    with closing(AuditLog(home.audit_log("q"))) as log:
        log.catch_up(store, "q")
    store.close()
    return home


def files(home: Home, run: str) -> set[str]:
    folder = home.run_folder(run)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def ctl(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = supervisorctl.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def broken(home: Home, run: str) -> set[str]:
    """Return the promises that the audit of a run finds broken; these runs have had no driver."""
    with read_only(home.store) as connection:
        return {one.name for one in invariants.check(evidence.gather(home, connection, run)) if not one.holds}


def deletions(home: Home) -> list[tuple[str, dict[str, Any]]]:
    with read_only(home.store) as connection:
        rows = connection.execute("SELECT name, fields FROM event WHERE name IN ('removal.asked', 'files.deleted')")
        return [(row["name"], json.loads(row["fields"])) for row in rows]


def test_gc_lists_every_run_with_sizes_and_why_its_files_stay(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (home.runs / "of-another-store").mkdir()
    assert supervisorctl.main(["gc", "--json"]) == 0
    listed = {one["run"]: one for one in json.loads(capsys.readouterr().out)}
    assert {run: one["deletable_bytes"] for run, one in listed.items()} == dict.fromkeys(listed, 1000 * len(GOES))
    assert {one["bytes"] for one in listed.values()} == {1000 * (len(GOES) + len(STAYS))}
    assert listed["p-1"]["refusal"] is listed["p-2"]["refusal"] is None
    assert "has not ended: `supervisord start q` resumes it" in listed["q-1"]["refusal"]
    code, _, said = ctl(capsys, "gc")
    assert (code, "no terminal to ask" in said, "--yes" in said) == (2, True, True)
    assert files(home, "p-1") == {*STAYS, *GOES}
    assert deletions(home) == []


def test_gc_deletes_old_runs_and_keeps_each_plans_newest_and_every_report(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.runs / "of-another-store").mkdir()
    before = {run: broken(home, run) for run in ("p-1", "p-2", "q-1")}
    code, said, _ = ctl(capsys, "gc", "--yes")
    assert code == 0
    assert "left alone" in said
    assert files(home, "p-1") == set(STAYS)
    assert files(home, "p-2") == files(home, "q-1") == {*STAYS, *GOES}
    assert [name for name, _ in deletions(home)] == ["removal.asked", "files.deleted"]
    assert deletions(home)[1][1] == {"of": "p-1", "count": len(GOES), "bytes": 1000 * len(GOES), "error": None}
    assert ctl(capsys, "gc", "--yes", "--all")[0] == 0
    assert files(home, "p-2") == set(STAYS)
    assert files(home, "q-1") == {*STAYS, *GOES}, "a run that can go on is no old run"
    assert "nothing to delete" in ctl(capsys, "gc", "--yes", "--all")[1]
    assert {run: broken(home, run) for run in before} == before


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_in_a_terminal_it_asks_first(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str, deleted: bool
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert supervisorctl.main(["rm", "p-1"]) == (0 if deleted else 1)
    assert "[y/N]" in capsys.readouterr().out
    assert files(home, "p-1") == (set(STAYS) if deleted else {*STAYS, *GOES})


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (["q-1"], "the files of run q-1 stay: it has not ended"),
        (["p-1", "q-1"], "the files of run q-1 stay: it has not ended"),
        (["p-11"], "no run 'p-11' in this home"),
        (["../state"], "no run '../state' in this home"),
    ],
)
def test_rm_refuses_by_name_and_deletes_nothing_then(
    home: Home, capsys: pytest.CaptureFixture[str], runs: list[str], why: str
) -> None:
    code, _, said = ctl(capsys, "rm", "--yes", *runs)
    assert code in (Conflict.exit_code, NotFound.exit_code)
    assert why in said
    assert "cure:" in said or "resumes it" in said
    assert files(home, "p-1") == files(home, "q-1") == {*STAYS, *GOES}


def test_a_run_that_was_given_up_may_go_and_one_with_a_test_to_be_repeated_may_not(home: Home) -> None:
    store = Store(home.store, Clock())
    RunWriter(store, "q-1").record("run.abandoned")
    for state in (ProcessState.STARTING, ProcessState.RUNNING):
        RunWriter(store, "p-1").record("experiment.moved", experiment="x", state=state, reason=None)
    RunWriter(store, "p-1").record("experiment.finished", experiment="x", best=1.0, best_trial=0, trials=1)
    tests = EvaluationWriter(store, "p-1")
    tests.open_test("x", OPENING)
    tests.record_failure("x", "the disk was full", outside=True)
    refusals = {one.run: one.refusal for one in run_files.old_runs(store.connection)}
    assert refusals["q-1"] is None
    assert "a test of it is to be repeated, and needs its weights" in str(refusals["p-1"])
    store.close()


def test_the_run_of_a_live_daemon_is_never_touched(home: Home) -> None:
    """Also while it ends, when the store says so already."""
    with closing(Store(home.store, Clock())) as store:
        for run in ("p-2", "q-1"):
            with pytest.raises(Conflict, match=f"the files of run {run} stay: the daemon works on it"):
                run_files.ask_removal(store, run, run, "me", live=run)
    assert deletions(home) == []


def test_while_a_process_holds_the_home_without_answering_nothing_is_deleted(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = take_lock(home)
    assert ctl(capsys, "rm", "--yes", "p-1")[0] == 7
    with pytest.raises(Exception, match="held by pid"):
        run_files.remove_without_daemon(home, "p-1")
    assert files(home, "p-1") == {*STAYS, *GOES}
    os.close(lock)


def test_links_are_deleted_and_never_followed(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (home.run_folder("p-1") / "x" / "7").symlink_to(precious)
    (home.run_folder("p-1") / "x" / "0" / "link").symlink_to(precious)
    (home.run_folder("p-1") / "y").symlink_to(precious)
    assert ctl(capsys, "rm", "--yes", "p-1")[0] == 0
    assert (precious / "file").read_text() == "precious"
    assert not (home.run_folder("p-1") / "x" / "7").is_symlink()


KILLED_AT = """
import os, shutil, signal, sys
from pathlib import Path
from supervisor.cli import supervisorctl
left, whole = int(sys.argv[1]), shutil.rmtree
def part(path, *rest, **named):
    global left
    if left == 0:
        next(file for file in Path(path).rglob("*") if file.is_file()).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    whole(path, *rest, **named)
shutil.rmtree = part
sys.exit(supervisorctl.main(["rm", "--yes", "p-1"]))
"""


@pytest.mark.parametrize(("argument", "failpoint"), [("0", ""), ("1", ""), ("9", "store.committed:1:kill")])
def test_a_deletion_that_was_killed_is_finished_by_asking_again(
    home: Home, capsys: pytest.CaptureFixture[str], argument: str, failpoint: str
) -> None:
    """Killed after its wish was committed, in the middle of the first trial's folder, or of the second's."""
    before = broken(home, "p-1")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, argument], env={**os.environ, "SWEEP_FAILPOINT": failpoint},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=NET_S, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert {*STAYS} < files(home, "p-1") <= {*STAYS, *GOES}
    assert [name for name, _ in deletions(home)] == ["removal.asked"]
    assert ctl(capsys, "rm", "--yes", "p-1")[0] == 0
    assert files(home, "p-1") == set(STAYS)
    assert [name for name, _ in deletions(home)] == ["removal.asked", "files.deleted"]
    assert broken(home, "p-1") == before


def test_a_run_whose_files_were_deleted_is_not_tried_again(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(capsys, "rm", "--yes", "p-2")[0] == 0
    with closing(Store(home.store, Clock())) as store:
        with pytest.raises(Conflict, match="the files of run p-2 were deleted"):
            choose_run(store, StartRequest(plan="p", fingerprint="f", specs=[SPEC], retry=True), Clock())
        assert choose_run(store, StartRequest(plan="p", fingerprint="f", specs=[SPEC]), Clock()) not in ("p-1", "p-2")


def test_a_folder_that_cannot_be_deleted_is_named_and_the_rest_is_recorded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    deleted = run_files.delete_files(home, "p-1")
    assert deleted.count == len([name for name in GOES if name.startswith("ray")])
    assert "Permission denied" in str(deleted.error)


def test_a_run_whose_folder_is_a_link_stays_and_the_others_go(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "larger-disk"
    home.run_folder("p-1").rename(elsewhere)
    home.run_folder("p-1").symlink_to(elsewhere)
    code, said, _ = ctl(capsys, "gc", "--all", "--yes")
    assert (code, "is a link" in said) == (0, True)
    assert files(home, "p-2") == set(STAYS)
    assert {str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*") if path.is_file()} == {*STAYS, *GOES}
    assert ctl(capsys, "rm", "p-1", "--yes")[0] != 0
