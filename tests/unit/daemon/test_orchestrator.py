"""The orchestrator and its drivers: order, deaths, restarts, stops."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.experiments import experiment_runner, experiment_state
from supervisor.daemon.experiments.driver_session import REFUSALS_IN_A_ROW
from supervisor.daemon.experiments.experiment_runner import MAX_FRUITLESS_STARTS
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.errors import RayStartFailed
from supervisor.home import Home
from supervisor.preflight.concurrency import Choice, Share
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.print_file import print_path
from supervisor.store import lookups
from tests.unit.daemon.orchestrator_stage import DONE, FakeHead, Stage, first_spawn_fails, until


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_state, "BACKOFF_CAP_S", 0.1)


def test_experiments_run_in_order_one_is_skipped_one_fails_and_the_next_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE], c=[[["trial", 0, 0.5], ["fail", "out of luck"]]], d=[DONE])
    stage.too_large = {"b"}
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "SKIPPED", "c": "FATAL", "d": "EXITED"}
    assert (stage.reason("b"), stage.reason("c")) == ("too large", "out of luck")
    assert stage.recorded("experiment.started", "experiment.finished", "experiment.skipped", "experiment.failed") == [
        ("experiment.started", "a"), ("experiment.finished", "a"), ("experiment.skipped", "b"),
        ("experiment.started", "c"), ("experiment.failed", "c"), ("experiment.started", "d"),
        ("experiment.finished", "d"),
    ]  # fmt: skip
    finished = stage.facts("experiment.finished")[0]
    assert (finished["best"], finished["best_trial"], finished["trials"]) == (0.25, 0, 2)
    assert len(stage.heads) == 1, "one Ray for all"
    assert stage.heads[0].stopped


def test_a_choice_of_resources_is_recorded_once_and_every_driver_gets_it(tmp_path: Path) -> None:
    stumble = ["fail", "OSError: a disk hiccup", False]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], stumble], [["trial", 1, 0.25]]], b=[DONE])
    stage.choices = {"a": Choice(Share(3, 2), "measured", 3, ((Share(3, 2), 9.0),))}
    stage.live()
    (chosen,) = stage.facts("experiment.resources_chosen")
    assert (chosen["trials"], chosen["threads"], chosen["reason"]) == (3, 2, "measured")
    assert chosen["figures"] == [{"trials": 3, "threads": 2, "windows_per_s": 9.0}]
    names = [name for name, _ in stage.recorded("experiment.resources_chosen", "driver.started")]
    assert names[0] == "experiment.resources_chosen", "before the first driver"
    spec = lookups.spec(stage.store, "r", "a")
    assert (spec["concurrency"], spec["resources"]["cpu"], spec["config"]["threads"]) == (3, 2.0, 2)
    assert lookups.spec(stage.store, "r", "b")["concurrency"] == 1


def test_a_driver_that_fails_is_replaced_and_the_reason_is_one_line(tmp_path: Path) -> None:
    """An error that is not final may pass, so it does not fail the experiment."""
    stumble = ["fail", "Traceback (most recent call last):\n  ...\nOSError: a disk hiccup", False]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], stumble], [["trial", 1, 0.25]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert "a disk hiccup" in stage.facts("driver.exited")[0]["reason"]
    (tmp_path / "b").mkdir()
    failed = Stage(
        tmp_path / "b", b=[[["fail", 'Traceback:\n  File "mine.py", line 3, in f\nPlanError: no such module']]]
    )
    failed.live()
    assert failed.reason("b") == "PlanError: no such module (mine.py, line 3)"


def test_a_trial_of_which_two_drivers_die_ends_and_its_experiment_goes_on(tmp_path: Path) -> None:
    first, second = ([["result", 0, step], ["fail", "OverflowError: too large", False, 0]] for step in (1, 2))
    stage = Stage(tmp_path, a=[first, second, [["trial", 1, 0.25]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert [lost["cause"] for lost in stage.facts("trial.requeued")] == ["killed_driver"]
    (ended,) = stage.facts("trial.failed")
    assert ended["error"] == "two drivers died of it: it failed: OverflowError: too large"


def test_a_secret_in_a_drivers_error_is_redacted(tmp_path: Path) -> None:
    """It stands neither in a row nor in an event: of a trial, of a lost attempt, of the experiment."""
    secret = "cannot reach https://ann:hush-hush@host: WANDB_API_KEY=0123abcd"
    end = {"number": 0, "attempt": 1, "end_reason": "error", "value": None, "error": secret, "record": {}}
    lost = {"number": 1, "attempt": 1, "cause": "worker_died", "error": secret}
    story = [["result", 0, 1], ["message", "TrialEnded", end], ["result", 1, 1], ["message", "AttemptLost", lost],
             ["fail", secret]]  # fmt: skip
    stage = Stage(tmp_path, a=[story])
    stage.live()
    assert stage.states() == {"a": "FATAL"}
    assert stage.reason("a") == "cannot reach https://***@host: WANDB_API_KEY=***"
    recorded = [str(event.fields) for event in stage.store.events_after(0) if event.name != "run.created"]
    kept = [str(tuple(row)) for table in ("trial", "attempt") for row in stage.store.rows(f"SELECT * FROM {table}")]
    assert sum("https://***@host" in each for each in [*recorded, *kept]) == 4, "three events and a trial"
    assert not [each for each in [*recorded, *kept] if "hush-hush" in each or "0123abcd" in each]


def test_a_failure_carries_the_last_lines_that_its_attempt_printed(tmp_path: Path) -> None:
    """Of the attempt that failed and of the one that was lost; without secrets. A file may be missing."""
    folder = Home(tmp_path).run_folder("r") / "a"
    end = {"attempt": 1, "end_reason": "error", "value": None, "error": "it broke", "record": {}}
    lost = {"number": 1, "attempt": 1, "cause": "worker_died", "error": "SIGKILL"}
    story = [["result", 0, 1], ["message", "TrialEnded", {**end, "number": 0}], ["result", 1, 1],
             ["message", "AttemptLost", lost], ["result", 2, 1], ["message", "TrialEnded", {**end, "number": 2}],
             ["fail", "out of luck"]]  # fmt: skip
    stage = Stage(tmp_path, a=[story])
    stage.store.connection.execute("UPDATE experiment SET spec = json_set(spec, '$.max_trials', 3)")
    for trial, text in enumerate(("no\nCUDA password=hush-hush\n", "\x1b[1mkilled\x1b[0m\n")):
        path = print_path(folder / str(trial), 1)
        path.parent.mkdir(parents=True)
        path.write_text(text)
    stage.live()
    assert [facts["printed"] for facts in stage.facts("trial.failed")[:2]] == ["no\nCUDA password=***", None]
    assert stage.facts("trial.requeued")[0]["printed"] == "killed"
    records = [json.loads(row["record"]) for row in stage.store.rows("SELECT record FROM trial ORDER BY number")]
    assert records[0] == {"printed": "no\nCUDA password=***"}
    assert records[2] == {}


def test_an_experiment_without_a_value_fails(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[]])
    stage.live()
    assert stage.states() == {"a": "FATAL"}
    assert "no trial was started" in stage.reason("a")


def test_a_driver_that_dies_is_replaced_and_its_trial_resumes_as_a_new_attempt(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["die"]], [["trial", 1, 0.75]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "TERMINATED", 2, 0.75)]
    (death,) = stage.facts("driver.exited")
    assert death["reason"] == "signal SIGKILL"
    assert Path(death["log"]).exists()
    assert death["retry_in_s"] == 0.1
    assert [name for name, _ in stage.recorded("driver.started", "driver.exited", "trial.requeued")] == [
        "driver.started", "trial.requeued", "driver.exited", "driver.started",
    ]  # fmt: skip


def test_an_experiment_whose_drivers_only_die_fails_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment_runner, "MAX_FRUITLESS_STARTS", 2)
    stage = Stage(tmp_path, a=[[["die"]]], b=[DONE])
    stage.live()
    assert stage.states() == {"a": "FATAL", "b": "EXITED"}
    assert "died 2 times in a row (signal SIGKILL)" in stage.reason("a")
    assert "driver.log" in stage.reason("a")
    assert stage.store.rows("SELECT driver_starts FROM experiment WHERE name = 'a'")[0][0] == 2


def test_drivers_that_die_after_a_result_do_not_fail_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment_runner, "MAX_FRUITLESS_STARTS", 2)
    lives: list[list[list[Any]]] = [[["result", 0, step], ["die"]] for step in range(1, 5)]
    stage = Stage(tmp_path, a=[*lives, [["trial", 0, 0.5]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("driver.exited")) == 4


def test_five_fruitless_starts_are_the_limit() -> None:
    assert MAX_FRUITLESS_STARTS == 5


def test_a_silent_driver_is_killed_and_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["sleep"]], DONE])
    stage.silences_s = [1.5]
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert [name for name, _ in stage.recorded("driver.hung", "driver.exited")][:2] == ["driver.hung", "driver.exited"]
    assert "without a message" in stage.facts("driver.exited")[0]["reason"]


def test_a_driver_that_does_not_read_counts_as_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A begin larger than the pipe waits for its reader; this driver sends heartbeats and never reads."""
    monkeypatch.setattr(experiment_runner, "MAX_FRUITLESS_STARTS", 1)
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], ["x" * 2_000_000]]])
    stage.environment["STORY"], stage.silences_s = "deaf", [1.0]
    stage.live()
    assert stage.states() == {"a": "FATAL"}
    assert "without reading" in stage.reason("a")
    assert len(stage.facts("driver.hung")) == 1


@pytest.mark.parametrize(
    "malformed",
    [
        ["garbage"],
        ["message", "Hello", {}],
        ["message", "SensorNoted", {"node": "n", "kind": "sensor.sang", "facts": {}}],
        ["message", "ActionChanged", {"node": "n", "command": {"action": "HALT"}}],
        ["message", "Finish", {"reason": "the wrong way round"}],
    ],
    ids=lambda malformed: "-".join(map(str, malformed[:2])),
)
def test_a_driver_that_sends_a_malformed_message_is_replaced(tmp_path: Path, malformed: list[Any]) -> None:
    stage = Stage(tmp_path, a=[[malformed, ["sleep"]], DONE])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    (death,) = stage.facts("driver.exited")
    assert death["reason"].startswith("broke the link")


@pytest.mark.parametrize("shortage", ["a trial needs 1 gpu on one node", "a trial needs 9 cpu on one node"])
def test_a_trial_that_no_node_can_run_is_said_while_it_waits_and_forgotten_with_its_driver(
    tmp_path: Path, shortage: str
) -> None:
    lacks, found = (["message", "ResourcesCompared", {"shortage": said}] for said in (shortage, None))
    stage = Stage(tmp_path, a=[[lacks, ["die"]], [lacks, found, *DONE]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert [fields["shortage"] for fields in stage.facts("resources.lacked")] == [shortage, shortage]
    assert len(stage.facts("resources.found")) == 1
    assert stage.now is not None
    assert stage.now.shortage is None


def test_a_driver_that_keeps_sending_for_a_replaced_attempt_is_replaced(tmp_path: Path) -> None:
    """It disagrees with the store about the trial; only a new begin can correct that."""
    late = ["message", "ResultReported", {
        "number": 0, "attempt": 7, "step": 9, "value": 0.1, "metrics": {}, "checkpoint": None,
    }]  # fmt: skip
    stage = Stage(tmp_path, a=[[["result", 0, 1], *[late] * 30, ["sleep"]], DONE])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("result.refused")) == REFUSALS_IN_A_ROW
    (death,) = stage.facts("driver.exited")
    assert "about trial 0 were refused" in death["reason"]


def test_a_few_late_messages_of_a_replaced_attempt_are_only_refused(tmp_path: Path) -> None:
    """An accepted message in between shows that driver and store agree."""
    late = ["message", "TrialHeld", {"number": 0, "attempt": 0, "state": "PAUSED", "reason": "late"}]
    believed = ["message", "TrialAdded", {"number": 0, "params": {}, "source": "sampled"}]
    few = [*[late] * (REFUSALS_IN_A_ROW - 1), believed]
    stage = Stage(tmp_path, a=[[["result", 0, 1], *few, *few, ["trial", 1, 0.5]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("driver.exited") == []


def test_a_stopped_run_resumes_in_the_next_life_without_loss(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["finish"]], [["trial", 1, 0.75]]], b=[DONE])

    async def stop(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        at_work.stop.ask("stopped by ann")

    stage.live(stop)
    assert stage.states() == {"a": "STOPPED", "b": "STOPPED"}
    assert stage.reason("a") == "stopped by ann"
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "PENDING", 1, None)]
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "TERMINATED", 2, 0.75)]
    assert len(stage.facts("trial.finished")) == 4, "none twice"


def test_a_stop_during_the_back_off_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_state, "BACKOFF_CAP_S", 1000.0)
    monkeypatch.setattr("supervisor.daemon.experiments.experiment_state.random.uniform", lambda low, high: 1000.0)
    stage = Stage(tmp_path, a=[[["die"]]])

    async def stop(at_work: Orchestrator) -> None:
        await until(lambda: stage.states() == {"a": "BACKOFF"}, "the driver has died")
        at_work.stop.ask("SIGTERM")

    stage.live(stop)
    assert stage.states() == {"a": "STOPPED"}


def test_a_stop_before_the_first_experiment_starts_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])
    stage.live(stop="SIGTERM")
    assert stage.states() == {"a": "STOPPED"}
    assert stage.heads == []


@pytest.mark.parametrize("chosen_first", [False, True])
def test_a_stop_while_resources_are_chosen_leaves_the_experiment_for_the_next_start(
    tmp_path: Path, chosen_first: bool
) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    choice = Choice(Share(3, 2), "measured", 3, ((Share(3, 2), 9.0),))

    async def stop_is_asked() -> None:
        assert stage.now is not None
        stage.now.stop.ask("shut down by a person")
        await asyncio.sleep(0.0 if chosen_first else 30.0)

    stage.choices, stage.choosing = {"a": choice}, stop_is_asked
    stage.live()
    assert stage.states() == {"a": "STOPPED", "b": "STOPPED"}
    assert stage.recorded("experiment.resources_chosen", "experiment.stopped", "driver.started") == []
    stage.choices, stage.choosing = {"a": choice}, None
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert [name for name, _ in stage.recorded("experiment.resources_chosen")] == ["experiment.resources_chosen"]


def test_after_the_end_of_a_head_its_driver_is_killed_and_both_are_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["result", 0, 1], ["sleep"]], [["trial", 0, 0.5]]])

    async def kill_head(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "a trial has reported")
        stage.heads[0].die()

    stage.live(kill_head)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("ray.exited") == [{"status": "exit code 1"}]
    assert len(stage.heads) == 2
    assert stage.trials("a") == [(0, "TERMINATED", 2, 0.5)]


def test_an_error_from_a_driver_whose_cluster_died_is_not_the_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, a=[[["result", 0, 1], ["await", "Commanded"], ["fail", "ConnectionError"]], DONE])

    async def kill_head(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "a trial has reported")
        stage.heads[0].die()
        await until(lambda: bool(stage.facts("ray.exited")), "the daemon has seen the end of the head")
        await at_work.commands_changed()

    async def leave_alive(_: DriverProcess) -> None:
        """The driver's error arrives before the daemon kills it."""

    monkeypatch.setattr(DriverProcess, "kill", leave_alive)

    stage.live(kill_head)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("driver.exited")[0]["reason"] == "Ray ended: ConnectionError"


def test_a_ray_that_does_not_start_ends_the_run_and_fails_no_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment_runner, "MAX_FRUITLESS_STARTS", 2)
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    with monkeypatch.context() as patch:
        patch.setattr(FakeHead, "broken", True)
        with pytest.raises(RayStartFailed, match="did not start"):
            stage.live()
    assert len(stage.heads) == 2
    assert "FATAL" not in stage.states().values()
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}


def test_a_driver_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, a=[DONE])
    first_spawn_fails(monkeypatch)
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert "Resource temporarily unavailable" in stage.facts("driver.exited")[0]["reason"]


def test_an_ended_experiment_has_no_live_trial(tmp_path: Path) -> None:
    """Its driver forgot to end one, and reported that nothing is left to do."""
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], ["result", 1, 1]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert not {"RUNNING", "PAUSED"} & {state for _, state, _, _ in stage.trials("a")}
    assert stage.store.rows("SELECT * FROM attempt WHERE ended_wall IS NULL") == []
