"""The recorder: Tune's callbacks as messages to the daemon. No Ray running."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce, NodeReport
from actors.driver.failure_check import AT_LEAST, FailureCheck
from actors.driver.recorder import Recorder, metrics_of
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import (
    CHECKPOINT,
    END,
    ERROR,
    LEFT,
    LEFT_OUT,
    OUT_OF_MEMORY,
    OWN_KEY,
    RECORD,
    SMALLER,
    STEP,
)
from actors.trial.worker_exit import OOM_KILLED, Death
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import (
    AttemptLost,
    CheckpointUnusable,
    DeviceRefused,
    ReportTrimmed,
    ResultReported,
    TrialEnded,
    TrialHeld,
    TrialStarted,
)


class Link(list):
    when_sent = staticmethod(lambda message: None)

    def send(self, message):
        self.append(message)
        self.when_sent(message)


class FakeTrial:
    """The parts of a Tune trial that are used."""

    def __init__(self, trial_id, error=None):
        self.trial_id, self.error, self.last_result = trial_id, error, {}
        self.config = {"x": 1, OWN_KEY: {"number": 4, "attempt": 1, "checkpoint": None, "folder": "/f"}}

    def get_error(self):
        return self.error

    def set_config(self, config):
        self.config = config


@pytest.fixture
def bench(monkeypatch):
    whereabouts = ray_private.Whereabouts("node", 123)
    monkeypatch.setattr(ray_private, "whereabouts", lambda trial: made.whereabouts)
    link, registry, in_force = Link(), TrialRegistry("loss", "min", []), CommandsInForce("e")
    registry.open("a", 4, {"x": 1})
    made = SimpleNamespace(
        link=link,
        registry=registry,
        in_force=in_force,
        recorder=Recorder(link, registry, in_force),
        whereabouts=whereabouts,
    )
    return made


def call(bench, name, trial, **more):
    getattr(bench.recorder, name)(iteration=0, trials=[trial], trial=trial, **more)


def test_a_trials_life_is_reported_in_order(bench):
    trial = FakeTrial("a")
    call(bench, "on_trial_start", trial)
    call(bench, "on_trial_result", trial, result={STEP: 1, "loss": 2.0, "pid": 9, CHECKPOINT: "/f/4/checkpoint-1.pt"})
    trial.last_result = {STEP: 1, "loss": 2.0, RECORD: {"seed": 1}}
    call(bench, "on_trial_complete", trial)
    assert bench.link == [
        TrialStarted(4, 1, "a", "node", 123, None),
        ResultReported(4, 1, 1, 2.0, {"loss": 2.0}, "/f/4/checkpoint-1.pt"),
        TrialEnded(4, 1, "finished", 2.0, None, {"seed": 1}),
    ]
    assert bench.registry.running() == []


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error"])
def test_the_end_of_a_trial_that_failed_is_looked_at(bench, end):
    bench.registry.failures = FailureCheck(1)
    for number in range(AT_LEAST):
        bench.registry.open(f"{number}", number, {"x": 1})
        trial = FakeTrial(f"{number}", error="ValueError: no such column")
        call(bench, "on_trial_start", trial)
        call(bench, end, trial)
    assert bench.registry.failures.problem is not None


def test_a_worker_that_left_no_error_gets_an_error_text(bench):
    trial = FakeTrial("a")
    call(bench, "on_trial_start", trial)
    call(bench, "on_trial_recover", trial)
    assert bench.link[-1] == AttemptLost(
        4, 1, "worker_died", "its worker process ended without an error: it was killed, or ended itself"
    )


def test_a_lost_worker_is_a_lost_attempt_and_the_next_one_has_its_checkpoint(bench):
    trial = FakeTrial("a", error="The actor died")
    call(bench, "on_trial_start", trial)
    call(bench, "on_trial_result", trial, result={STEP: 3, "loss": 2.0, CHECKPOINT: "/f/4/checkpoint-3.pt"})
    call(bench, "on_trial_recover", trial)
    assert bench.link[-1] == AttemptLost(4, 1, "worker_died", "The actor died")
    assert trial.config["x"] == 1
    assert trial.config[OWN_KEY] == {
        "number": 4,
        "attempt": 2,
        "checkpoint": "/f/4/checkpoint-3.pt",
        "reported": 3,
        "memory": None,
        "spent": None,
        "final": False,
        "folder": "/f",
    }
    bench.whereabouts = ray_private.Whereabouts("node", 123, 3)
    call(bench, "on_trial_start", trial)
    assert bench.link[-1] == TrialStarted(4, 2, "a", "node", 123, 3)


def test_the_step_that_a_trial_resumed_from_is_reported_when_its_checkpoint_could_not_be_read(bench):
    bench.registry.entry("a").checkpoint = "/f/4/checkpoint-3.pt"
    bench.whereabouts = ray_private.Whereabouts("node", 123, 2, ("/f/4/checkpoint-3.pt",))
    call(bench, "on_trial_start", FakeTrial("a"))
    assert bench.link == [TrialStarted(4, 1, "a", "node", 123, 2), CheckpointUnusable(4, 1, "/f/4/checkpoint-3.pt")]


def test_a_device_that_was_refused_is_reported_with_the_start(bench):
    bench.whereabouts = ray_private.Whereabouts("node", 123, None, refused_device="mps in fp32: loss 3; the CPU: 1")
    call(bench, "on_trial_start", FakeTrial("a"))
    assert bench.link[1:] == [DeviceRefused(4, 1, "mps in fp32: loss 3; the CPU: 1")]


def test_a_worker_that_does_not_answer_counts_as_resumed_from_its_checkpoint(bench):
    bench.registry.entry("a").checkpoint = "/f/4/checkpoint-3.pt"
    bench.whereabouts = ray_private.Whereabouts()
    call(bench, "on_trial_start", FakeTrial("a"))
    assert bench.link == [TrialStarted(4, 1, "a", "", None, 3)]


@pytest.mark.parametrize(
    ("text", "reason"), [("The actor died", "error"), ("OutOfMemoryError: killed by the monitor", "oom")]
)
def test_the_last_death_ends_the_trial(bench, text, reason):
    trial = FakeTrial("a", error=text)
    call(bench, "on_trial_start", trial)
    call(bench, "on_trial_error", trial)
    assert bench.link[-1] == TrialEnded(4, 1, reason, None, text)


@pytest.mark.parametrize("result", [{LEFT: True, STEP: 1}, {END: "error", ERROR: "x", "done": True}])
def test_a_result_without_an_epoch_is_not_reported(bench, result):
    call(bench, "on_trial_result", FakeTrial("a"), result=result)
    assert bench.link == []


PAUSE = Command(Action.PAUSE, Origin.GOVERNOR, "too hot")
RUN = Command(Action.RUN, Origin.GOVERNOR, "cool")
WAITING = frozenset([("e", 4, 1)])


def test_a_pause_is_recorded_when_the_heartbeat_says_waiting_and_its_end_when_it_moves_again(bench):
    """Neither by the command alone: the trial works to its next batch, and needs a moment to begin again."""
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE))
    assert bench.link[1:] == []
    bench.in_force.report("node", NodeReport(PAUSE, waiting=WAITING))
    assert bench.link[1:] == [TrialHeld(4, 1, "PAUSED", "too hot")]
    bench.in_force.report("node", NodeReport(RUN, waiting=WAITING))
    assert bench.link[2:] == []
    bench.in_force.report("node", NodeReport(RUN))
    assert bench.link[2:] == [TrialHeld(4, 1, "RUNNING", "cool")]


def test_a_pause_that_no_trial_felt_is_not_recorded(bench):
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE))
    bench.in_force.report("node", NodeReport(RUN))
    assert bench.link[1:] == []


@pytest.mark.parametrize(
    "report",
    [NodeReport(RUN, waiting=WAITING), NodeReport(PAUSE, waiting=frozenset([("e", 4, 2), ("e", 5, 1)]))],
    ids=["a rest or a full disk", "another attempt"],
)
def test_only_this_attempts_wait_under_a_pause_is_a_pause(bench, report):
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", report)
    bench.in_force.report("elsewhere", NodeReport(PAUSE, waiting=WAITING))
    assert bench.link[1:] == []


def test_a_trial_that_the_scheduler_holds_has_stopped(bench):
    """Its worker is idle then: it was answered NOOP at the end of a step."""
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.registry.entry("a").reported = True
    bench.in_force.report("node", NodeReport(PAUSE))
    assert bench.link[1:] == [TrialHeld(4, 1, "PAUSED", "too hot")]
    bench.in_force.report("node", NodeReport(RUN))
    assert bench.link[2:] == [], "the scheduler has not continued it yet"
    bench.registry.entry("a").reported = False
    bench.recorder.record_pauses()
    assert bench.link[2:] == [TrialHeld(4, 1, "RUNNING", "cool")]


def test_each_report_of_a_watchdog_finds_a_pause_that_was_missed_before(bench):
    """A report that is as before too: otherwise a trial that stops between two changes could stand unrecorded."""
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE))
    bench.registry.entry("a").reported = True
    for _ in range(2):
        bench.in_force.report("node", NodeReport(PAUSE))
    assert bench.link[1:] == [TrialHeld(4, 1, "PAUSED", "too hot")]


def test_a_trial_has_not_resumed_because_its_watchdog_has_not_looked_yet(bench):
    """As when the watchdog of a node that joins does not come up."""
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE, waiting=WAITING))
    bench.in_force.report("node", NodeReport(RUN, waiting=None))
    assert bench.link[2:] == []


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_recover"])
def test_the_pause_of_an_attempt_is_never_sent_after_its_end(bench, end):
    """A watchdog reports in one thread while Tune ends the trial in another; the wait only gives that thread time."""
    bench.registry.open("b", 5, {"x": 1})
    for trial in (FakeTrial("a"), FakeTrial("b")):
        call(bench, "on_trial_start", trial)
    tune = threading.Thread(target=call, args=(bench, end, FakeTrial("b")))
    bench.link.when_sent = lambda message: message.number == 4 and (tune.start(), tune.join(0.2))
    del bench.link[:]
    bench.in_force.report("node", NodeReport(PAUSE, waiting=WAITING | {("e", 5, 1)}))
    tune.join()
    assert [type(message) for message in bench.link[:2]] == [TrialHeld, TrialHeld]
    assert [message.number for message in bench.link] == [4, 5, 5]


def test_a_trial_that_leaves_its_gate_under_a_pause_has_not_resumed(bench):
    """It saves itself, for its memory is needed."""
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE, waiting=WAITING))
    bench.in_force.report("node", NodeReport(PAUSE))
    assert bench.link[2:] == []


def test_a_paused_trial_does_not_resume_because_its_node_is_gone(bench):
    call(bench, "on_trial_start", FakeTrial("a"))
    bench.in_force.report("node", NodeReport(PAUSE, waiting=WAITING))
    bench.in_force.forget_node("node")
    assert bench.link[2:] == []


def test_metrics_are_the_trials_own():
    """Leave out the keys that Tune and we add to a result."""
    result = {
        "loss": 0.5, "a/b": 2, "none": None, "config": {"x": 1}, "pid": 1, "trial_id": "a", STEP: 1,
        "time_this_iter_s": 0.1, RECORD: {}, CHECKPOINT: "c", LEFT_OUT: (("curve", "a list"),),
    }  # fmt: skip
    assert set(metrics_of(result)) == {"loss", "a/b", "none", "time_this_iter_s"}


def test_what_a_report_leaves_out_is_told_once(bench):
    """For each name, whichever trial has it."""
    for step, names in enumerate(["a", "a", "ab"], 1):
        left_out = tuple((name, "a list") for name in names)
        call(bench, "on_trial_result", FakeTrial("a"), result={STEP: step, "loss": 1.0, LEFT_OUT: left_out})
    told = [message.left_out for message in bench.link if isinstance(message, ReportTrimmed)]
    assert told == [{"a": "a list"}, {"b": "a list"}]


HALF = {"micro_batch": 32, "checkpoint_activations": False}


def started(bench, smaller=HALF):
    bench.whereabouts = ray_private.Whereabouts("node", 123, smaller=smaller)
    trial = FakeTrial("a")
    call(bench, "on_trial_start", trial)
    return trial


def test_memory_that_ran_out_is_a_lost_attempt_and_the_next_one_is_given_less(bench):
    trial = started(bench)
    call(bench, "on_trial_result", trial, result={LEFT: True, STEP: 2, OUT_OF_MEMORY: "it ran out", SMALLER: HALF})
    bench.recorder.release(trial)
    assert bench.link[-1] == AttemptLost(4, 1, "oom", "it ran out", memory=HALF)
    assert (trial.config[OWN_KEY]["memory"], trial.config[OWN_KEY]["spent"]) == (HALF, None)
    call(bench, "on_trial_start", trial)
    bench.recorder.release(trial)
    assert bench.link[-1] == AttemptLost(4, 2, "released", None)
    assert trial.config[OWN_KEY]["memory"] == HALF


def test_the_offer_of_a_trial_that_leaves_replaces_that_of_its_start(bench):
    """At the start its worker may have been too slow to answer."""
    bench.whereabouts = ray_private.Whereabouts()
    trial = FakeTrial("a")
    call(bench, "on_trial_start", trial)
    call(bench, "on_trial_result", trial, result={LEFT: True, STEP: 2, OUT_OF_MEMORY: "it ran out", SMALLER: HALF})
    bench.recorder.release(trial)
    assert bench.link[-1] == AttemptLost(4, 1, "oom", "it ran out", memory=HALF)


def test_a_trial_that_was_asked_for_its_memory_leaves_for_that_cause(bench):
    trial = started(bench)
    bench.in_force.ask_back(4, "memory at 91 %")
    bench.recorder.release(trial)
    assert bench.link[-1] == AttemptLost(4, 1, "memory", None, memory=HALF)
    assert bench.in_force.for_watchdogs()[0] == ()


@pytest.mark.parametrize("smaller", [HALF, None])
def test_a_worker_that_the_kernel_killed_comes_back_with_less_memory_or_reports_its_end(bench, smaller):
    """It offered smaller settings at its start. With nothing smaller left the next one only says `oom`."""
    deaths = lambda node, number, attempt: Death(OOM_KILLED, "the kernel killed it", node)  # noqa: E731
    bench.recorder = Recorder(bench.link, bench.registry, bench.in_force, deaths)
    trial = started(bench, smaller)
    call(bench, "on_trial_recover", trial)
    assert bench.link[-1] == AttemptLost(4, 1, OOM_KILLED, "the kernel killed it", memory=smaller)
    own = trial.config[OWN_KEY]
    assert (own["memory"], own["spent"]) == ((smaller, None) if smaller else (None, "the kernel killed it"))


def test_a_trial_that_ended_is_not_asked_for_its_memory(bench):
    trial = started(bench)
    bench.in_force.ask_back(4, "memory at 91 %")
    trial.last_result = {"loss": 1.0, STEP: 1}
    call(bench, "on_trial_complete", trial)
    assert bench.in_force.for_watchdogs()[0] == ()
