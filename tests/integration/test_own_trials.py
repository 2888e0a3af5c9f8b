"""Trials of one's own: what their code reports, how it ends, and what it keeps, on a real Ray head."""

from __future__ import annotations

from collections import Counter

import pytest

from supervisor.domain.messages import AttemptLost, ReportTrimmed, ResultReported, TrialStarted
from tests.integration.own_trainables import BAD, BESIDE, GOOD


def kinds_of(*kinds):
    """Return the part of a spec that tries each kind once, in order."""
    return {
        "space": {"kind": {"type": "categorical", "choices": list(kinds)}},
        "enqueue": [{"kind": kind} for kind in kinds],
        "max_trials": len(kinds),
        "concurrency": 2,
        "resources": {"cpu": 0.5, "gpu": 0.0},
        "sampler": {"kind": "random", "startup_trials": 0},
    }


def by_kind(daemon):
    return {row.params["kind"]: row for row in daemon.store.rows.values()}


def keeping(spec, tmp_path, **config):
    settings = {"diary": str(tmp_path / "diary"), "every": 1, "dies": 0, "resumes": True, "pace_s": 0.05}
    return spec(
        trainable="own_trainables:keeps",
        config=settings | config,
        enqueue=[{"x": 0.5}],
        max_trials=1,
        max_epochs=8,
        pruner={"kind": "asha", "grace_period": 1, "reduction_factor": 3, "max_t": 8},
    )


def trained(tmp_path):
    return [int(line.split()[1]) for line in (tmp_path / "diary").read_text().splitlines()]


def steps_of(daemon):
    return [step for step, _ in daemon.store.rows[0].results]


@pytest.mark.slow
def test_a_function_goes_on_from_its_own_checkpoint_after_a_death_and_after_a_shutdown(drive, spec, tmp_path):
    """It saves every third epoch, and its results are those of the epochs that it trained."""
    experiment = keeping(spec, tmp_path, every=3, dies=5, pace_s=0.3)
    first = drive(experiment)
    first.wait_for(AttemptLost)
    assert first.wait_for(TrialStarted).resumed_step == 3
    first.wait_for(ResultReported, lambda message: message.step == 6)
    first.finish()
    first.succeeds()
    second = drive(experiment, store=first.store.driver_is_gone())
    assert second.wait_for(TrialStarted).resumed_step == 6
    second.succeeds()
    row = second.store.rows[0]
    assert dict(row.results) == {step: 100.0 - step for step in range(1, 9)}
    assert (row.end_reason, row.value, row.checkpoint[-13:]) == ("finished", 92.0, "/checkpoint-6")
    twice = [epoch for epoch, times in Counter(trained(tmp_path)).items() if times > 1]
    assert set(twice) <= {4, 7, 8}


@pytest.mark.slow
def test_a_function_that_leaves_its_checkpoint_unread_counts_from_one_again(drive, spec, tmp_path):
    """Its epochs run again, so their numbers do, and it is not stopped before its eighth."""
    daemon = drive(keeping(spec, tmp_path, dies=4, resumes=False))
    daemon.succeeds()
    assert trained(tmp_path) == [1, 2, 3, *range(1, 9)]
    assert sorted(steps_of(daemon)) == list(range(1, 9))
    assert daemon.store.rows[0].value == 92.0


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["odd", "Odd"])
def test_odd_reports_end_their_own_trial_at_most(drive, spec, trainable):
    """Numbers of any library are taken; else the trial ends with a sentence; what is beside the metric is left out."""
    kinds = kinds_of(*GOOD, *BAD, *BESIDE)
    daemon = drive(spec(trainable=f"own_trainables:{trainable}", max_epochs=2, **kinds))
    daemon.succeeds()
    rows = by_kind(daemon)
    assert {kind: rows[kind].value for kind in (*GOOD, *BESIDE)} == {
        **dict.fromkeys((*GOOD, *BESIDE), 0.5),
        "whole": 1.0,
    }
    assert {rows[kind].end_reason for kind in BAD} == {"error"}
    assert all("as 'loss', the plan's metric: expected a number" in rows[kind].error for kind in BAD)
    assert "torch.Tensor with shape (3,)" in rows["tensor"].error
    assert "the text '0.5'" in rows["text"].error
    metrics = {message.number: message.metrics for message in daemon.all(ResultReported)}
    assert metrics[rows["deep"].number]["a/b/c"] == 0.25
    assert len(metrics[rows["wide"].number]) <= 502
    assert {row.attempt for row in rows.values()} == {1}
    assert {step for row in rows.values() for step, _ in row.results} == {1, 2}
    left_out = {name: what for message in daemon.all(ReportTrimmed) for name, what in message.left_out.items()}
    assert left_out["history"] == "a value of type list with 100000 entries"
    assert {"net", "sweep_end", "pid"} <= left_out.keys()


@pytest.mark.slow
def test_a_functions_good_reports_outlive_its_end(drive, spec):
    """A gap, a text, a return and an exit with status 0 leave the best result; other exits are errors, tried once."""
    good = ["gap", "text", "returns nought", "returns summary", "returns model", "exit"]
    bad = {
        "exit with words": "it called sys.exit('no more data')",
        "interrupted": "KeyboardInterrupt",
        "generator exit": "GeneratorExit",
    }
    daemon = drive(spec(trainable="own_trainables:ends", **kinds_of(*good, *bad)))
    daemon.succeeds()
    rows = by_kind(daemon)
    values = {kind: (rows[kind].end_reason, rows[kind].value) for kind in good}
    assert values == {**dict.fromkeys(good, ("finished", 0.25)), "returns nought": ("finished", 0.0)}
    for kind, words in bad.items():
        assert (rows[kind].end_reason, rows[kind].attempt) == ("error", 1)
        assert words in rows[kind].error
        assert "own_trainables.py" in rows[kind].error


@pytest.mark.slow
def test_a_class_may_end_its_trial_by_an_exit(drive, spec):
    kinds = {
        "exit": None,
        "exit with status": "it called sys.exit(7)",
        "interrupted": "KeyboardInterrupt",
        "no dictionary": "found a value of type list with 2 entries",
        "exit in setup": "it called sys.exit(4)",
    }
    daemon = drive(spec(trainable="own_trainables:Ends", **kinds_of(*kinds)))
    daemon.succeeds()
    rows = by_kind(daemon)
    assert (rows["exit"].end_reason, rows["exit"].value) == ("finished", 0.5)
    for kind, words in list(kinds.items())[1:]:
        assert (rows[kind].end_reason, rows[kind].attempt) == ("error", 1)
        assert words in rows[kind].error


def test_a_generators_values_are_its_reports(drive, spec):
    daemon = drive(spec(trainable="own_trainables:yields", enqueue=[{"x": 0.5}], max_trials=1))
    daemon.succeeds()
    assert daemon.store.rows[0].results == [[1, 3.5], [2, 2.0], [3, 1.0]]
    assert daemon.all(ResultReported)[1].metrics["more/acc"] == 1


@pytest.mark.slow
def test_a_metric_that_no_trial_reports_ends_the_search_early(drive, spec):
    """The first trials agree; the error names what was reported and the nearest. `metric_at: end` waits."""
    late = {"trainable": "own_trainables:late", "metric": "val/acc", "mode": "max", "max_epochs": 3, "concurrency": 2}
    late |= {"resources": {"cpu": 0.5, "gpu": 0.0}, "max_trials": 3}
    patient = drive(spec(**late, metric_at="end"))
    patient.succeeds()
    assert {row.value for row in patient.store.rows.values()} == {0.3}
    # One trial at a time: with two, the first may have ended with its metric before the second reports.
    hasty = drive(spec(**late | {"concurrency": 1}))
    assert hasty.end() == 1
    assert "val/time" in hasty.error()
    assert "metric_at: end" in hasty.error()
    assert len(hasty.all(ResultReported)) <= 5
    assert any("did you mean val/time?" in (row.error or "") for row in hasty.store.rows.values())


MANY = 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainable", "more", "said"),
    [
        ("fails", {}, "FileNotFoundError"),
        ("reports_another", {}, "it reported accuracy"),
        ("reports_another", {"metric_at": "end"}, "it reported accuracy"),
    ],
)
def test_trials_that_all_fail_at_once_end_the_search_after_a_few(drive, spec, trainable, more, said):
    """The reason has their error and the next command; what was not tried stays to be tried."""
    plan = {"trainable": f"own_trainables:{trainable}", "max_trials": MANY, "concurrency": 2, **more}
    daemon = drive(spec(**plan, resources={"cpu": 0.5, "gpu": 0.0}))
    assert daemon.end() == 1
    assert said in daemon.error()
    failed = [row for row in daemon.store.rows.values() if row.end_reason == "error"]
    assert len(daemon.store.rows) <= 6 + 2
    if trainable == "fails" or more:
        assert len(failed) >= 6
        assert "as each of the first 6, failed by the same error" in daemon.error()
        assert "`supervisorctl retry one`" in daemon.error()


@pytest.mark.slow
def test_a_module_that_fails_at_its_import_ends_the_experiment_before_its_first_trial(drive, spec):
    daemon = drive(spec(trainable="broken_trainables:f", max_trials=MANY))
    assert daemon.end() == 1
    assert "the import of broken_trainables fails: RuntimeError: the licence server is down" in daemon.error()
    assert not daemon.store.rows


@pytest.mark.slow
@pytest.mark.parametrize(("trainable", "cpu"), [("nested", 1.0), ("Nested", 0.5)])
def test_ray_tasks_of_a_trial_run_where_the_plan_reserves_for_them(drive, spec, trainable, cpu):
    """Without a share each trial fails at once and says the remedy, also in a worker that is reused."""
    plan = {"trainable": f"own_trainables:{trainable}", "max_trials": 3, "max_epochs": 1}
    bare = drive(spec(**plan, resources={"cpu": cpu, "gpu": 0.0}))
    bare.succeeds()
    rows = bare.store.rows.values()
    assert [row.end_reason for row in rows] == ["error"] * 3
    remedy = "add `nested: [{cpu: 1}]` to the plan's `resources`"
    assert [row.error for row in rows if remedy not in row.error] == []
    shares = {"cpu": cpu, "gpu": 0.0, "nested": [{"cpu": 1.0, "gpu": 0.0}]}
    reserved = drive(spec(**plan, resources=shares))
    reserved.succeeds()
    assert [row.end_reason for row in reserved.store.rows.values()] == ["finished"] * 3
