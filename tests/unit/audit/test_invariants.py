"""Test the checker: a good run passes, and each kind of planted fault is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit import evidence, invariants
from supervisor.audit.hash_chain import digest
from supervisor.audit.log import open_audit_log
from supervisor.cli import supervisorctl
from supervisor.domain import messages
from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.store.database import Store, read_only
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter
from tests.unit.audit.rebuild_home import end_in_order, make_home
from training.checkpoint import write_checkpoint

E = "2M-h1"


class StepClock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now += 7.0
        return self.now


Record = dict[str, Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Make a run with a worker's death, a finished experiment and a waiting one."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    home = make_home((tmp_path / "home").resolve())
    store = Store(home.store, StepClock())  # type: ignore[arg-type]
    specs = [{"name": name, "mode": "min", "max_trials": 2, "max_hours": None} for name in (E, "20M-h1")]
    create_run(
        store, "p-1", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    _play(RunWriter(store, "p-1"), tmp_path)
    end_in_order(home, store)
    return home


def _play(writer: RunWriter, folder: Path) -> None:
    checkpoint = folder / "checkpoint-2.pt"
    write_checkpoint(checkpoint, {"epoch": 2})
    result = lambda number, attempt, step, kept=None: messages.ResultReported(number, attempt, step, 1 / step, {}, kept)  # noqa: E731
    start = lambda number, attempt, step=None: messages.TrialStarted(number, attempt, "ray", "node", 1, step)  # noqa: E731
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    for name in (E, "20M-h1"):
        writer.move_experiment(name, ProcessState.STARTING)
        writer.record("experiment.started", experiment=name, max_trials=2)
    for message in (
        messages.TrialAdded(0, {"lr": 0.1}, "sampled"), start(0, 1), result(0, 1, 1), result(0, 1, 2, str(checkpoint)),
        result(0, 1, 3), messages.AttemptLost(0, 1, "worker_died", "SIGKILL"), start(0, 2, 2), result(0, 2, 3),
        messages.TrialEnded(0, 2, "finished", 0.25, None, {"parameters": 2}),
        messages.TrialAdded(1, {"lr": 0.2}, "sampled"),
        start(1, 1), messages.TrialEnded(1, 1, "diverged", None, "NaN", {}),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle(E, message)
    writer.record("experiment.finished", experiment=E, best=0.25, best_trial=0, trials=2, seconds=1.0)
    for message in (
        messages.TrialAdded(0, {"lr": 0.1}, "sampled"), start(0, 1), result(0, 1, 1), result(0, 1, 2, str(checkpoint)),
        messages.AttemptLost(0, 1, "stopped", None),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle("20M-h1", message)
    writer.move_experiment("20M-h1", ProcessState.STOPPING)
    writer.record("experiment.stopped", experiment="20M-h1", reason="asked")
    writer.move_run(ProcessState.STOPPING)
    writer.move_run(ProcessState.STOPPED)


def audit(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Record]]:
    capsys.readouterr()
    code = supervisorctl.main(["audit", "--json"])
    printed = json.loads(capsys.readouterr().out)
    return code, {verdict["name"]: verdict for verdict in printed["verdicts"]}


def test_a_run_that_lost_an_attempt_and_no_result_passes(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, verdicts = audit(capsys)
    assert {name: verdict["faults"] for name, verdict in verdicts.items() if not verdict["holds"]} == {}
    assert code == 0
    counted = {name: verdict["counted"] for name, verdict in verdicts.items()}
    assert counted["results"] == "5 results"
    assert counted["attempts"] == "4 attempts"
    assert counted["causes"] == "2 lost"
    assert counted["epochs"] == "1 repeated"
    assert counted["checkpoints"] == "1 checked"


def test_the_table_and_the_exit_code_show_which_promises_hold(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisorctl.main(["audit", "p-1"]) == 0
    table = capsys.readouterr().out
    assert table.count("  holds ") == 10
    (home.root.parent / "checkpoint-2.pt").write_bytes(b"")
    assert supervisorctl.main(["audit", "p"]) == 1
    table = capsys.readouterr().out
    assert "BROKEN  checkpoints" in table
    assert "checkpoints: 20M-h1 trial 0" in table
    assert supervisorctl.main(["audit", "no such run"]) == 2


def test_a_run_that_goes_on_while_it_is_audited_passes(home: Home, tmp_path: Path) -> None:
    """An event after the copy of the store is in the log and not in the copy: no fault."""
    with read_only(home.store) as store, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        store.backup(copy)
    store = Store(home.store, StepClock())  # type: ignore[arg-type]
    RunWriter(store, "p-1").record("store.copied", path="copy.db", bytes=1, who="x")
    log, _ = open_audit_log(home.audit_log("p"), store)
    log.catch_up(store, "p")
    log.close()
    store.close()
    with read_only(tmp_path / "copy.db") as copy:
        found = {live: invariants.check(evidence.gather(home, copy, "p", live=live)) for live in (True, False)}
    assert [verdict for verdict in found[True] if not verdict.holds] == []
    assert [verdict.name for verdict in found[False] if not verdict.holds] == ["events"]


# Plant faults in the log, with its chain made whole again so that only the planted fault is there, or in the store


def in_log(home: Home, edit: Callable[[list[Record]], list[Record]]) -> None:
    path = home.audit_log("p")
    before, lines = None, []
    for record in edit([json.loads(line) for line in path.read_bytes().splitlines()]):
        line = json.dumps({**record, "prev": before}).encode() + b"\n"
        lines.append(line)
        before = digest(line)
    path.write_bytes(b"".join(lines))
    in_store(home, "DELETE FROM meta")


def in_store(home: Home, sql: str) -> None:
    connection = sqlite3.connect(home.store)
    assert connection.execute(sql).rowcount > 0, "the fault was planted"
    connection.commit()
    connection.close()


def without(event: str, nth: int = 0) -> Callable[[list[Record]], list[Record]]:
    def edit(records: list[Record]) -> list[Record]:
        del records[[n for n, record in enumerate(records) if record["event"] == event][nth]]
        return records

    return edit


def changed(event: str, nth: int = 0, **facts: Any) -> Callable[[list[Record]], list[Record]]:
    def edit(records: list[Record]) -> list[Record]:
        [record for record in records if record["event"] == event][nth].update(facts)
        return records

    return edit


def put_in(after: str, nth: int, **facts: Any) -> Callable[[list[Record]], list[Record]]:
    """Insert a changed copy of a line after it; the later events move up by one."""

    def edit(records: list[Record]) -> list[Record]:
        at = [n for n, record in enumerate(records) if record["event"] == after][nth]
        later = [{**record, "seq": record["seq"] + 1} for record in records[at:]]
        return [*records[: at + 1], {**later[0], **facts}, *later[1:]]

    return edit


LOG_FAULTS: dict[str, tuple[Callable[[list[Record]], list[Record]], str, str]] = {
    "a result that the log lost": (without("trial.reported"), "results", "in the store and not in the log"),
    "an event that the log lost": (without("experiment.started"), "events", "is not in the log"),
    "an event that only the log has": (put_in("run.started", 0), "events", "is not in the store"),
    "an event whose value was changed": (changed("trial.reported", value=0.125), "events", "their fields differ"),
    "a value that differs": (changed("trial.finished", value=0.125), "replay", "trial 2M-h1 0: value differ"),
    "a result counted twice": (put_in("trial.reported", 0), "results", "was reported 2 times"),
    "a second live attempt": (put_in("trial.started", 0, attempt=2), "attempts", "while attempt 1 was live"),
    "an attempt number used again": (changed("trial.started", 1, attempt=1), "attempts", "began after attempt 1"),
    "a result of a late attempt that was accepted": (
        changed("trial.reported", 3, attempt=7),
        "attempts",
        "but 1 was live",
    ),
    "an event after the end": (put_in("trial.finished", 0, event="trial.requeued", cause="x"), "attempts", "had ended"),
    "a trial that ended twice": (put_in("trial.finished", 0), "ends", "its end was recorded 2 times"),
    "a lost attempt without a cause": (changed("trial.requeued", cause=""), "causes", "without a cause"),
    "two epochs lost at once": (changed("trial.started", 1, resumed_step=0), "epochs", "from epoch 0, was saved at 2"),
}


@pytest.mark.parametrize("fault", LOG_FAULTS)
def test_a_fault_planted_in_the_log_is_found(home: Home, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    edit, name, words = LOG_FAULTS[fault]
    in_log(home, edit)
    code, verdicts = audit(capsys)
    assert code == 1
    assert words in " | ".join(verdicts[name]["faults"])
    assert verdicts["chain"]["holds"], "the chain was made whole again: it is the check itself that found the fault"


OPEN_TRIAL_1 = "UPDATE trial SET state = '{}', end_reason = NULL WHERE number = 1"
TRIAL_2 = (
    "INSERT INTO trial SELECT run, experiment, 2, state, params, source, attempt, end_reason, value, error, record,"
    " checkpoint, checkpoint_step, held_for, added_wall, started_wall, ended_wall FROM trial"
    " WHERE experiment = '2M-h1' AND number = 1"
)
RESULT_9 = "INSERT INTO result VALUES ('p-1', '2M-h1', 1, 9, 1, 0.5, '{}', 1.0)"
TWO_LIVE = "UPDATE attempt SET ended_wall = NULL WHERE experiment = '2M-h1' AND trial = 0"
NO_TRIAL_1 = "DELETE FROM trial WHERE experiment = '2M-h1' AND number = 1"
STORE_FAULTS = {
    "a result that the store lost": ("DELETE FROM result WHERE trial = 0 AND step = 2", "results", "not in the store"),
    "a result without an event": (RESULT_9, "results", "in the store and not in the log"),
    "an event that the store lost": ("DELETE FROM event WHERE name = 'trial.requeued'", "events", "not in the store"),
    "a gap in the numbers": ("DELETE FROM event WHERE seq = 3", "events", "numbered from 1 to"),
    "an ended trial that is open again": (OPEN_TRIAL_1.format("RUNNING"), "ends", "its end was recorded 1 times"),
    "an open trial of a finished experiment": (OPEN_TRIAL_1.format("PENDING"), "ends", "finished, and its trial 1"),
    "a run that ended over open experiments": ("UPDATE run SET state = 'EXITED'", "ends", "the run has finished, and"),
    "two live attempts in the store": (TWO_LIVE, "attempts", "two live attempts"),
    "an attempt that ended without a cause": ("UPDATE attempt SET cause = NULL", "causes", "ended without a cause"),
    "a trial too few": (NO_TRIAL_1, "counts", "1 trials instead of 2"),
    "a trial too many": (TRIAL_2, "counts", "3 trials, more than its 2"),
    "a checkpoint that is missing": ("UPDATE trial SET checkpoint = '/nowhere/x.pt'", "checkpoints", "No such file"),
    "a parameter that was changed": ("UPDATE trial SET params = '{}' WHERE number = 1", "replay", "params differ"),
    "a command without its event": ("INSERT INTO command VALUES ('p-1', 'all', '{}')", "replay", "in the store only"),
}


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_fault_planted_in_the_store_is_found(home: Home, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    sql, name, words = STORE_FAULTS[fault]
    in_store(home, sql)
    code, verdicts = audit(capsys)
    assert code == 1
    assert words in " | ".join(verdicts[name]["faults"])


def test_a_changed_line_breaks_the_chain_and_the_rest_is_still_checked(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.audit_log("p")
    path.write_bytes(path.read_bytes().replace(b'"cause":"worker_died"', b'"cause":"worker_diex"'))
    code, verdicts = audit(capsys)
    assert code == 1
    assert "does not follow event" in verdicts["chain"]["faults"][0]
    assert verdicts["results"]["holds"]


def test_a_log_that_lost_its_end_is_found_by_the_head_in_the_store(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.audit_log("p")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    _, verdicts = audit(capsys)
    assert "is missing" in verdicts["chain"]["faults"][0]


def test_a_checkpoint_is_checked_as_training_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-1.pt"
    write_checkpoint(path, {"epoch": 1})
    whole = path.read_bytes()
    assert evidence.checkpoint_fault(path) is None
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert evidence.checkpoint_fault(path) == "its checksum does not match"
    path.write_bytes(whole[:-1])
    assert evidence.checkpoint_fault(path) is not None
    path.unlink()
    assert evidence.checkpoint_fault(path) == "No such file or directory"
    path.mkdir()
    assert evidence.checkpoint_fault(path) == "the folder is empty"
    (path / "state").touch()
    assert evidence.checkpoint_fault(path) is None
