"""The verbs that show what runs have found: trials, best, export, history, compare, names; golden outputs."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from supervisor.cli import supervisorctl
from supervisor.cli.show import runs, views
from supervisor.cli.show.answers import yaml_text
from supervisor.cli.show.rows import result_rows, sorted_rows
from supervisor.cli.show.trials import column
from supervisor.clock import Clock
from supervisor.domain.early_ends import Named
from supervisor.domain.finalists import AFTER_SEARCH
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store import lookups, queries
from supervisor.store.database import Store, read_only
from supervisor.store.history_queries import history
from supervisor.store.steering.steer_writer import SteerWriter
from tests.unit.cli.show_stage import NAME, open_store, two_runs
from tests.unit.store.evaluation_stage import run_of

TRIALS = """\
trial  state       end_reason  value  params.learning_rate
8      TERMINATED  finished    0.48   0.001
9      TERMINATED  finished    0.49   0.001
0      TERMINATED  finished    0.5    0.001
10     TERMINATED  finished    0.5    0.00101
1      TERMINATED  finished    0.51   0.00101
11     TERMINATED  finished    0.51   0.00101
2      TERMINATED  finished    0.52   0.00102
3      TERMINATED  finished    0.53   0.00103
4      TERMINATED  finished    0.54   0.00104
5      TERMINATED  finished    0.55   0.00105
6      TERMINATED  finished    0.56   0.00106
7      TERMINATED  finished    0.57   0.00107
"""
BEST = """\
20k-h1  EXITED    val_loss, min
  final 0.485, the mean of 0.48, 0.49 on fresh seeds
  test 0.6 (0.5 to 0.7) on 1 days, e to f; the class prior 0.6 (0.5 to 0.7)
  params = {'shape_rank': 0,
            'heads_log2': 1,
            'learning_rate': 0.001,
            'weight_decay': 0.02,
            'dropout': 0.2,
            'batch_size': 64,
            'warmup_fraction': 0.05}
  best of the search 0.5 (trial 0): the best of many, so partly luck

60k-h1  STOPPED   val_loss, min
  no final configuration: none was finalised yet
"""
COMPARED = """\
experiment  key of the plan    mini-1      mini-2
all         config.split.kind  contiguous  folds
all         max_trials         12          16
all         finalize.folds     1           3

experiment  best       final         verdict
20k-h1      0.5   0.5  0.485  0.485  passed      unfinished
60k-h1      -     -    -      -      unfinished  unfinished
200k-h1     -     -    -      -      unfinished  unfinished
600k-h1     -     -    -      -      unfinished  unfinished
"""
PARAMS = {
    "shape_rank": 0, "heads_log2": 1, "learning_rate": 0.001, "weight_decay": 0.02, "dropout": 0.2, "batch_size": 64,
    "warmup_fraction": 0.05,
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    made = Home(tmp_path)
    two_runs(made)
    return made


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert supervisorctl.main(arguments) == code
    found = capsys.readouterr()
    return found.err if code else found.out


def test_trials_are_sorted_and_chosen_by_column_and_state(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("--columns", "trial,state,end_reason,value,learning_rate")
    assert said(capsys, "trials", NAME, "--run", "mini-1", "--sort", "value", *columns) == TRIALS
    backward = said(capsys, "trials", NAME, "--run", "mini-1", "--sort", "value", "--reverse", *columns)
    assert backward.splitlines()[1:][::-1][:2] == TRIALS.splitlines()[1:3]
    assert len(said(capsys, "trials", NAME, "--run", "mini-1", "--state", "failed,pruned").splitlines()) == 1
    assert len(said(capsys, "trials", "--state", "terminated").splitlines()) == 1 + 16, "the newest run's"
    assert said(capsys, "trials", "60k-h1", "--sort", "value").split() == [
        "trial", "state", "end_reason", "value", "epochs", "training_s", "params",
    ]  # fmt: skip


def test_a_trial_that_a_person_extended_shows_by_how_many_epochs(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(Store(home.store, Clock())) as store, store.change("mini-1") as change:
        change.record(
            "trial.extended", experiment=NAME, trial=0, attempt=1, who="ann", epochs=7, last_step=9, from_step=None,
            checkpoint=None, after=2, anew=True, end_reason="finished", value=0.5,
        )  # fmt: skip
    row = said(capsys, "trials", NAME, "--run", "mini-1").splitlines()[1]
    assert row.split()[:2] == ["0", "PENDING"]
    assert "0 (+7 epochs)" in row
    found = json.loads(said(capsys, "trials", NAME, "--run", "mini-1", "--json"))["trials"]
    assert [trial["extended_epochs"] for trial in found[:2]] == [7, None]


def test_trials_as_json_have_every_column_or_those_asked_for(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "trials", "20*", "--run", "mini-1", "--json"))
    assert (found["schema"], found["run"], len(found["trials"])) == (1, "mini-1", 12)
    assert found["trials"][0]["params.learning_rate"] == 0.001
    assert found["trials"][0]["cell.budget"] == "20k"
    short = json.loads(said(capsys, "trials", NAME, "--run", "mini-1", "--json", "--columns", "trial,params"))
    assert short["trials"][0] == {"trial": 0, "params": PARAMS}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trials", "20M*"), "no experiment '20M*' in mini-2; there are 20k-h1, 60k-h1, 200k-h1, 600k-h1"),
        (("trials", "20k-h2"), "did you mean 20k-h1?"),
        (("trials", "--columns", "vale"), "did you mean value?"),
        (("trials", "--sort", "nothing"), "there are run, experiment, trial, state"),
        (("trials", "--state", "finishd"), "did you mean finished?"),
        (("best", "--run", "smoke"), "no run or plan 'smoke' in this home"),
        (("compare", "mini-1", "mini-3"), "did you mean mini-"),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_exist(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in said(capsys, *arguments, code=2)


def test_best_keeps_the_final_configuration_apart_from_the_best_of_the_search(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "best", NAME, "60k-h1", "--run", "mini-1")
    assert text == BEST
    pasted = text[text.index("params = ") :].partition("\n  best")[0].removeprefix("params = ")
    assert ast.literal_eval(pasted) == PARAMS, "it can be pasted as Python"
    found = json.loads(said(capsys, "best", "--run", "mini-1", "--json"))
    one, other = found["experiments"][:2]
    assert (one["final"]["value"], one["final"]["trials"], one["search_best"]["value"]) == (0.485, [8, 9], 0.5)
    assert one["test"]["scores"]["bce"] == {"value": 0.6, "low": 0.5, "high": 0.7}
    assert one["final"]["config"]["learning_rate"] == 0.001
    assert one["final"]["config"]["budget"] == "20k"
    assert (other["final"], other["test"], other["search_best"]) == (None, None, None)
    as_yaml = YAML(typ="safe", pure=True).load(said(capsys, "best", "--run", "mini-1", "--yaml"))
    assert as_yaml == found


def test_a_small_number_in_yaml_is_a_number_for_readers_of_yaml_1_1() -> None:
    """PyYAML takes 1e-05 for text."""
    assert yaml_text({"a": 1e-05, "b": 2.5, "c": 1.5e-07}) == "a: 1.0e-05\nb: 2.5\nc: 1.5e-07\n"


def test_export_writes_a_row_for_each_trial(home: Home, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, "export", "--csv", "--run", "mini-1"))))
    assert len(rows) == 12
    assert (rows[8]["source"], rows[8]["value"]) == ("finalize", "0.48000000000000004")
    assert rows[8]["params.seed"] == rows[10]["params.seed"], "each configuration is trained on the same seeds"
    assert said(capsys, "export", "--csv", str(tmp_path / "t.csv"), "--run", "mini-1").endswith("t.csv: 12 rows\n")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 13
    assert "16 rows" in said(capsys, "export", "--parquet", str(tmp_path / "t.parquet"), "--experiment", "20k*")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert list(frame["trial"]) == list(range(16))
    assert frame["params.learning_rate"].dtype == "float64"
    assert said(capsys, "export", "--csv", "--results") == "", "no trial has a result"


def test_export_writes_a_row_for_each_epoch(home: Home, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = open_store(home)
    with store.change() as change:
        for step in (1, 2):
            change.execute(
                "INSERT INTO result (run, experiment, trial, step, attempt, value, metrics, wall)"
                " VALUES ('mini-2', ?, 3, ?, 1, ?, ?, 0)",
                NAME, step, 1.0 / step, json.dumps({"time_this_iter_s": 2.5}),
            )  # fmt: skip
    store.close()
    rows = list(csv.DictReader(io.StringIO(said(capsys, "export", "--csv", "--results"))))
    assert [(row["trial"], row["epoch"], row["value"], row["seconds"]) for row in rows] == [
        ("3", "1", "1.0", "2.5"), ("3", "2", "0.5", "2.5"),
    ]  # fmt: skip
    shown = said(capsys, "trials", NAME, "--columns", "trial,last_value,epochs,training_s").splitlines()
    assert shown[4].split() == ["3", "0.5", "2", "5", "s"]


def test_history_lists_every_run_newest_first(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "history").splitlines()
    assert [line.split()[0] for line in lines] == ["run", "mini-2", "mini-1"]
    assert lines[1].endswith("0 s   unfinished            0.485 20k-h1 (final)")
    assert lines[2].endswith("0 s   unfinished, 1 passed  0.485 20k-h1 (final)")
    assert len(said(capsys, "history", "-n", "1").splitlines()) == 2
    found = json.loads(said(capsys, "history", "--json"))["runs"]
    assert (found[1]["run"], found[1]["plan"], found[1]["experiments"][0]["final"]) == ("mini-1", "mini", 0.485)
    assert said(capsys, "names", "runs").split() == ["mini-2", "mini-1"]
    assert said(capsys, "names", "experiments").split() == ["20k-h1", "60k-h1", "200k-h1", "600k-h1"]


def test_history_agrees_with_the_whole_snapshot_of_each_run(home: Home) -> None:
    with read_only(home.store) as connection:
        for run in history(connection, 10):
            whole = queries.run_snapshot(connection, run["run"])["experiments"]
            for short, long in zip(run["experiments"], whole, strict=True):
                assert short["best"] == (None if long["best"] is None else long["best"]["value"])
                assert short["final"] == (None if long["finalized"] is None else long["finalized"]["val_loss"])
                assert (short["missing"], short["counts"]) == (long["missing"], long["counts"])


def test_history_leaves_out_a_discarded_trial(home: Home) -> None:
    with contextlib.closing(Store(home.store, Clock())) as store:
        experiment = queries.run_snapshot(store.connection, "mini-1")["experiments"][0]
        best, name = experiment["best"], experiment["name"]
        with store.change("mini-1") as change:
            change.record("trial.discarded", experiment=name, trial=best["trial"], who="ann")
        now = queries.run_snapshot(store.connection, "mini-1")["experiments"][0]["best"]["value"]
        short = next(run for run in history(store.connection, 10) if run["run"] == "mini-1")["experiments"][0]
        assert short["best"] == now != best["value"]


def test_trials_that_were_set_aside_are_shown_by_name_and_are_no_answer(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The walk-forward goes with its finalisation; a best of the search stays."""
    before = said(capsys, "best", "--run", "mini-2")
    with contextlib.closing(Store(home.store, Clock())) as store:
        count = len([row for row in lookups.trials(store, "mini-2", NAME) if row["source"] in AFTER_SEARCH])
        SteerWriter(store, "mini-2").discard([Named(NAME, 7)], "ann")
    assert count > 4, "with a walk-forward"
    lines = said(capsys, "trials", NAME, "--run", "mini-2", "--state", "set_aside", "--columns", "source,value")
    assert [line.split() for line in lines.splitlines()[1:]] == [["set_aside", "-"]] * count
    exported = list(
        csv.DictReader(io.StringIO(said(capsys, "export", "--experiment", NAME, "--run", "mini-2", "--csv", "-")))
    )
    assert sum(row["end_reason"] == row["source"] == "set_aside" for row in exported) == count
    assert len(exported) == 15, "only the discarded one is left out"
    after = said(capsys, "best", "--run", "mini-2")
    assert after != before
    assert "none was finalised yet" in after


def test_compare_shows_what_differs_in_the_plans_and_what_was_found(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "compare", "mini-1", "mini-2") == COMPARED
    found = json.loads(said(capsys, "compare", "mini-1", "mini-2", "--json"))
    assert found["differences"][1] == {"experiment": None, "key": "max_trials", "values": [12, 16]}
    assert found["experiments"][0]["verdict"] == ["passed", "unfinished"]
    assert said(capsys, "compare", "mini-1", "mini-1").startswith("the plans of both runs agree\n")


def test_a_difference_in_one_experiment_names_it(home: Home) -> None:
    with read_only(home.store) as connection:
        one, other = (queries.run_snapshot(connection, "mini-1") for _ in range(2))
    other["experiments"][1]["spec"]["config"]["patience"] = 9
    assert list(runs.differences(one, other)) == [
        {"experiment": "60k-h1", "key": "config.patience", "values": [3, 9]}
    ]  # fmt: skip


def test_what_the_machine_chose_is_no_difference_of_the_plans(home: Home) -> None:
    with read_only(home.store) as connection:
        one, other = (queries.run_snapshot(connection, "mini-1") for _ in range(2))
    for found, trials in ((one, 1), (other, 2)):
        for experiment in found["experiments"]:
            chosen = {"concurrency": trials, "chosen": "measured", "most_at_once": 4 * trials}
            experiment["spec"] |= {**chosen, "resources": {"cpu": 4.0 / trials, "auto": True}}
    assert list(runs.differences(one, other)) == []


def test_what_a_person_did_during_a_run_is_no_difference_of_the_plans_and_a_discarded_trial_has_no_results(
    home: Home,
) -> None:
    with read_only(home.store) as connection:
        one, other = (queries.run_snapshot(connection, "mini-1") for _ in range(2))
    first = other["experiments"][0]
    for view in (one, other):
        view["experiments"][0]["trials"][0]["results"] = [[1, 0.5, 2.0]]
    gone = first["trials"][0]["number"]
    first["spec"] |= {"discarded": {str(gone): "ann"}, "put_next": 1234, "ending": {"2": "ann"}}
    assert list(runs.differences(one, other)) == []
    numbers = [{row["trial"] for row in result_rows(view, view["experiments"][:1])} for view in (one, other)]
    assert numbers[0] - numbers[1] == {gone}


def test_with_a_daemon_the_verbs_ask_it_and_leave_the_store_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the daemon may read the store while it lives."""
    with read_only(home.store) as connection:
        whole = queries.run_snapshot(connection, "mini-1")
        short = {"runs": history(connection, 5, "mini-2")}
    asked: list[str] = []

    def ask(_: Home, verb: str, body: Any = None, *, query: str = "") -> dict[str, Any]:
        asked.append(verb + query)
        return short if verb == "history" else whole

    monkeypatch.setattr(views, "ask", ask)
    monkeypatch.setattr(runs, "ask", ask)
    lock = take_lock(home)
    try:
        assert "0.485" in said(capsys, "best", "--run", "mini 1")
        assert said(capsys, "trials", NAME).count("TERMINATED") == 12
        assert "mini-2  2023" in said(capsys, "history", "-n", "7")
    finally:
        os.close(lock)
    assert asked == ["run?trials=0&run=mini+1", "run?trials=1", "history?last=7"]


@pytest.mark.parametrize("arguments", [["trials"], ["best"], ["export", "--csv"], ["history"], ["compare", "a", "b"]])
def test_a_home_without_a_run_is_an_error_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "new"))
    assert "cure: start one with `supervisord start smoke`" in said(capsys, *arguments, code=2)
    assert said(capsys, "names", "runs") == ""


def test_a_run_of_other_metrics_has_no_single_best(home: Home) -> None:
    store = open_store(home)
    run_of(store, "mini-3")
    with store.change() as change:
        change.execute("UPDATE experiment SET spec = json_set(spec, '$.metric', name) WHERE run = 'mini-3'")
    found = history(store.connection, 1)[0]
    store.close()
    assert len({one["metric"] for one in found["experiments"]}) == 4


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_names_of_experiments_and_runs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = said(capsys, "completion", shell)
    assert script.count("supervisorctl names experiments") >= 1
    assert script.count("supervisorctl names runs") >= 1
    assert all(verb in script for verb in supervisorctl.VERBS)


VALUES = st.one_of(st.none(), st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=3))


@given(st.lists(st.tuples(VALUES, st.sampled_from(["min", "max"]))), st.booleans())
def test_sorting_loses_no_row_and_puts_those_without_a_value_last(cells: list[tuple[Any, str]], reverse: bool) -> None:
    rows = [{"experiment": mode, "value": value, "place": place} for place, (value, mode) in enumerate(cells)]
    found = sorted_rows(rows, "value", {"min": "min", "max": "max"}, reverse=reverse)
    assert sorted(row["place"] for row in found) == list(range(len(rows)))
    known = [row["value"] is not None for row in found]
    assert known == sorted(known, reverse=True)
    least = [row["value"] for row in found if row["experiment"] == "min" and isinstance(row["value"], int | float)]
    assert least == sorted(least, reverse=reverse)


@given(st.lists(st.one_of(VALUES, st.lists(st.integers(), max_size=2), st.booleans())))
def test_a_column_of_a_table_has_one_type_and_loses_no_value(values: list[Any]) -> None:
    found = column(values)
    assert len({type(value) for value in found if value is not None}) <= 1
    assert [value is None for value in found] == [value is None for value in values]
