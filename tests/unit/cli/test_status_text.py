"""The lines that `status` and `wait` print."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli import end_table, status_text
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.run_words import GIVEN_UP, why_no_daemon, without_daemon
from supervisor.formatting import duration
from tests.unit.cli.status_view import (
    CHOSEN,
    ETA_WORDS,
    NOW,
    TRACEBACK,
    command,
    experiment,
    trial,
    untouched,
    view,
)


def test_status_of_a_run_at_work() -> None:
    assert status_text.status(view(experiment(), untouched("2M-h3"))).splitlines() == [
        "smoke-20231114-221320  RUNNING   ETA 32 min 35 s, up 2 h 00 min, pid 42",
        "  80 % likely: 25 min 00 s to 43 min 00 s; 61 C; no action in force",
        "2M-h1     RUNNING   17/50 trials, ETA 32 min 35 s, best 0.1235",
        "    search: 17 done, 2 running, 0 pruned, 0 failed of 50, 80 % likely: 25 min 00 s to 43 min 00 s",
        "    trial 17: 0.6931 at epoch 3 of 20; trial 18: epoch 1 of 20, paused: 92 C",
        "    best of the search 0.1235 (trial 4, partly luck)",
        "2M-h3     STOPPED   not started",
        "  dashboard http://127.0.0.1:8265",
        "  log /h/logs/smoke.jsonl",
    ]


def test_trials_that_were_set_aside_are_counted_apart() -> None:
    counts = {"finished": 12, "pruned": 1, "set_aside": 4}
    lines = status_text.status(view(experiment(counts=counts)))
    assert "search: 12 done, 2 running, 1 pruned, 0 failed, 4 set aside of 50" in lines


def test_a_trial_that_a_person_extended_shows_its_new_end() -> None:
    running = experiment()
    spec = {**running["spec"], "extended": {"17": {"last_step": 30, "more": 10, "failed": False}}}
    text = status_text.status(view({**running, "spec": spec}))
    assert "trial 17: 0.6931 at epoch 3 of 30 (+10 epochs); trial 18: epoch 1 of 20" in text


def failure(**changes: Any) -> dict[str, Any]:
    return {"trial": 3, "attempt": 2, "end_reason": "error", "error": TRACEBACK, "printed": None} | changes


def test_the_last_failure_of_an_experiment_at_work_is_shown_with_what_it_printed() -> None:
    printed = "one\ntwo\nthree\n" + "x" * 200
    lines = status_text.status(view(experiment(last_failure=failure(printed=printed)))).splitlines()
    begin = next(number for number, line in enumerate(lines) if "trial 3 failed" in line)
    assert [line.strip() for line in lines[begin : begin + 5]] == [
        "trial 3 failed (error): ValueError: n is three (mine.py, line 6)",
        "the last that it printed (`supervisorctl log 2M-h1/3` has all):",
        "| two", "| three", "| " + "x" * 119 + "…",
    ]  # fmt: skip
    assert "printed" not in status_text.status(view(experiment(last_failure=failure())))
    over = experiment(state="EXITED", ended_wall=NOW, last_failure=failure(printed=printed))
    assert "printed" not in status_text.status(view(over))
    assert "trial 3 failed" not in status_text.status(view(experiment(last_failure=None)))
    narrow = status_text.status(view(experiment(last_failure=failure(printed=printed))), 80).splitlines()
    assert max(map(len, narrow)) <= 80
    assert any(line.startswith("    | xxx") and line.endswith("…") for line in narrow)


def test_status_shows_the_address_of_an_open_live_page() -> None:
    open_page = view(experiment())
    open_page["daemon"]["page"] = "http://127.0.0.1:8123/?token=abc"
    assert "live page http://127.0.0.1:8123/?token=abc" in status_text.status(open_page)
    open_page["daemon"]["page"] = None
    assert "live page" not in status_text.status(open_page)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"missing": "its test was opened once and has no result: no disk"}, "NO ANSWER"),
        ({"test": {"openings": 3, "earlier_looks": []}}, "test opened 3 times"),
        (
            {"test": {"openings": 1, "earlier_looks": [{"run": "mini-1", "days": 640}]}},
            "640 of its test days were opened by mini-1",
        ),
    ],
)
@pytest.mark.parametrize("state", ["RUNNING", "EXITED"])
def test_a_missing_answer_and_looks_at_the_test_are_shown(state: str, changes: dict[str, Any], shown: str) -> None:
    one = experiment(state=state, ended_wall=NOW, **changes)
    assert shown in status_text.experiment_line(one, 22)
    table = end_table.text_table({"experiments": [{**one, "evaluation": None}]})
    assert (changes.get("missing") or shown) in table


@pytest.mark.parametrize(
    ("spec", "left_s", "shown"),
    [
        ({"max_hours": 10.0}, 7200.0, "2 h 00 min of 10 h 00 min left"),
        ({"finish_asked": True}, None, ", finishes"),
        ({"searched": 15, "search_end": "hours"}, None, "search ended (hours)"),
        ({"searched": 15, "search_end": "finish", "finish_asked": True}, None, "search ended (finish)"),
    ],
)
def test_hours_and_the_end_of_a_search_are_shown(spec: dict[str, Any], left_s: float | None, shown: str) -> None:
    one = experiment(left_s=left_s)
    assert shown in status_text.status(view({**one, "spec": {**one["spec"], **spec}}))


def test_the_summary_counts_a_missing_answer_and_failed_trials_beside_what_passed() -> None:
    experiments = [experiment(state="EXITED"), experiment(state="EXITED", missing="x"), experiment(counts={"oom": 2})]
    found = end_table.summary({"experiments": experiments})
    assert found == "passed 1, failed 0, skipped 0, without an answer 1, unfinished 1, and 2 trials failed"
    assert end_table.summary({"experiments": experiments[:1]}) == "passed 1, failed 0, skipped 0"


def test_lost_time_is_shown_by_its_largest_causes_and_the_rest_in_one() -> None:
    lost = [{"experiment": "x", "trial": 1, "cause": f"c{n}", "seconds": 10.0 * n} for n in range(1, 10)]
    assert (
        status_text.status({**view(experiment()), "lost": lost})
        .splitlines()[-3]
        .endswith(
            "lost, over all trials: c9 1 min 30 s, c8 1 min 20 s, c7 1 min 10 s, c6 1 min 00 s, c5 50 s, c4 40 s,"
            " 3 other causes 1 min 00 s"
        )
    )


def test_status_without_a_daemon_shows_the_last_run() -> None:
    last = view(experiment(state="STOPPED", running=[]))
    del last["daemon"], last["nodes"]
    assert status_text.status(last).splitlines() == [
        "smoke-20231114-221320  RUNNING   plan smoke",
        "2M-h1     STOPPED   17/50 trials, best 0.1235",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state": "SKIPPED", "reason": "2B needs 31 GB, there are 16"}, "SKIPPED   2B needs 31 GB, there are 16"),
        ({"state": "FATAL", "reason": TRACEBACK}, "FATAL     ValueError: n is three (mine.py, line 6)"),
        (
            {"state": "EXITED", "running": [], "ended": 50, "ended_wall": NOW, "counts": {"finished": 49, "error": 1}},
            "EXITED    50/50 trials, 1 failed (error), best 0.1235, took 1 h 00 min",
        ),
        (
            {"state": "STOPPED", "running": [], "counts": {"pruned": 9, "oom": 2, "diverged": 5, "operator": 1}},
            "STOPPED   17/50 trials, 7 failed (5 diverged, 2 oom), best 0.1235",
        ),
        ({"state": "BACKOFF", "reason": "signal SIGKILL"}, "BACKOFF   signal SIGKILL"),
        ({"state": "FATAL", "reason": None}, "FATAL     "),
        (
            {"state": "EXITED", "running": [], "ended": 50, "ended_wall": NOW},
            "EXITED    50/50 trials, best 0.1235, took 1 h 00 min",
        ),
        ({"state": "STARTING", "running": [], "ended": 0, "best": None}, "STARTING  0/50 trials"),
        (
            {"state": "STARTING", "running": [], "ended": 0, "best": None, "spec": CHOSEN},
            "STARTING  0/50 trials",
        ),
        ({"state": "STOPPED", "running": [], "ended": 0, "best": None}, "STOPPED   0/50 trials"),
        (
            {"running": [], "ended": 0, "best": None, "eta": None, "counts": {}},
            "RUNNING   0/50 trials, ETA ?",
        ),
        (
            {"state": "PAUSED", "action": "STOP", "origin": "governor", "reason": "99 C; resume it"},
            "PAUSED    STOP by the governor: 99 C; resume it",
        ),
        ({"state": "PAUSED", "running": []}, "PAUSED    17/50 trials, ETA 32 min 35 s, best 0.1235"),
    ],
)
def test_the_line_of_an_experiment_in_each_state(changes: dict[str, Any], line: str) -> None:
    assert status_text.experiment_line(experiment(**changes), 8) == f"2M-h1     {line}"


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)
WORDS = st.text(max_size=80)


@given(
    rows=st.lists(st.tuples(NAMES, st.sampled_from(list(ProcessState)), WORDS), min_size=1, max_size=5),
    reason=WORDS,
    held=WORDS,
)
def test_name_and_state_of_each_line_can_be_read_by_a_program(
    rows: list[tuple[str, ProcessState, str]], reason: str, held: str
) -> None:
    """Ansible's supervisorctl module splits each line at spaces: the first field is the name, the second the state."""
    running = [trial(1, 1, state="PAUSED", held_for=held)]
    experiments = [
        experiment(name, str(state), reason=why, ended_wall=NOW, running=running) for name, state, why in rows
    ]
    lines = status_text.status(view(*experiments, commands=[command("PAUSE", reason=reason)])).splitlines()
    assert all(len(line.split()) >= 2 for line in lines)
    found = [tuple(line.split()[:2]) for line in lines if not line.startswith(("! ", "  "))][1:]
    assert found == [(name, str(state)) for name, state, _ in rows]
    assert all(re.fullmatch("[A-Z]+", state) for _, state in found)


def test_a_long_error_is_cut() -> None:
    line = status_text.experiment_line(experiment(state="FATAL", reason="x" * 5000), 8)
    assert len(line) < 400
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"), (-5.0, "0 s"), (0.4, "0 s"), (41.0, "41 s"), (59.6, "1 min 00 s"), (125.0, "2 min 05 s"),
        (7500.0, "2 h 05 min"), (172_799.0, "47 h 59 min"), (172_800.0, "2 d 0 h"), (900_000.0, "10 d 10 h"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@given(seconds=st.floats(0, 1e8))
def test_a_duration_is_exact_to_its_last_unit(seconds: float) -> None:
    words = duration(seconds).split()
    said = sum(int(number) * UNITS[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert said - 0.5 <= seconds < said + UNITS[words[-1]] + 0.5


def test_progress_shows_where_the_run_is() -> None:
    text = status_text.progress(view(experiment(state="EXITED"), experiment("2M-h3")))
    assert text == f"experiment 2/2 | 2M-h3 RUNNING | trial 19/50 | best 0.1235 | {ETA_WORDS} | 61 C"
    text = status_text.progress(view(untouched("a"), commands=[command("PAUSE")], nodes={}, eta=None))
    assert text == "experiment 1/1 | ETA ? | PAUSED by ann: visitors, for 1 min 30 s | hardware not sampled yet"
    text = status_text.progress(view(experiment(counts={"error": 2}), experiment("b", counts={"hung": 1})))
    assert "| 3 failed |" in text
    text = status_text.progress(view(experiment(state="EXITED")))
    assert text == "all 1 experiments have ended; the report is being written"


def test_the_table_and_the_summary_name_failed_trials_and_the_first_error() -> None:
    trials = [
        {"number": 0, "end_reason": "finished", "error": None},
        {"number": 1, "end_reason": "error", "error": TRACEBACK},
        {"number": 2, "end_reason": "oom", "error": "no memory"},
    ]
    counts = {"finished": 1, "error": 1, "oom": 1}
    table = end_table.text_table(view(experiment(state="EXITED", trials=trials, counts=counts)))
    assert "2M-h1: 2 failed (1 error, 1 oom); the first, trial 1: ValueError: n is three (mine.py, line 6)" in table
    assert table.endswith("passed 1, failed 0, skipped 0, and 2 trials failed")


@pytest.mark.parametrize("state", ["RUNNING", "STARTING", "PAUSED"])
@pytest.mark.parametrize("trials", [True, False])
def test_after_the_death_of_its_daemon_no_output_says_that_a_run_is_at_work(state: str, trials: bool) -> None:
    last = view(experiment(state=state, trials=[trial(17, 3)]) if trials else experiment(state=state))
    last["run"] |= {"state": state, "desired": "run", "source": "built-in", "hardware": {}, "reason": None}
    dead = without_daemon({key: value for key, value in last.items() if key not in ("daemon", "nodes")})
    assert (dead["daemon"], dead["daemon_died"]) == (None, True)
    assert (dead["run"]["state"], dead["run"]["recorded_state"]) == ("STOPPED", state)
    assert dead["experiments"][0]["state"] == "STOPPED"
    assert [found["state"] for found in dead["experiments"][0].get("trials", [])] == ["PENDING"] * trials
    lines = status_text.status(dead).splitlines()
    assert "ITS DAEMON DIED: `supervisord start` resumes it" in lines[0]
    assert not any(word in line for line in lines for word in ("RUNNING", "STARTING", "PAUSED", "ETA"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "EXITED"}, "the run has ended"),
        ({"state": "FATAL"}, "the run could not go on: its log says why; `supervisord start` resumes it"),
        (
            {"state": "FATAL", "failure": "Ray did not start; the end of its output:\nport 8265 is taken"},
            "Ray did not start; the end of its output: port 8265 is taken; `supervisord start` resumes it",
        ),
        ({"state": "FATAL", "reason": GIVEN_UP}, "the run was given up for a new one"),
        ({"state": "STOPPED"}, "it was shut down; `supervisord start` resumes it"),
        (
            {"state": "STOPPED", "desired": "stop", "hardware": {"options": ["--only", "2M"]}},
            "the run is stopped; `supervisord start smoke --only 2M` resumes it",
        ),
        (
            {"state": "STOPPING", "desired": "stop", "source": "/my plans/p.yaml"},
            "it died while the run was STOPPING; `supervisord start '/my plans/p.yaml'` resumes it",
        ),
        ({"state": "PAUSED", "hardware": '{"options": ["--set", "seed=3"]}'}, "PAUSED; `supervisord start` resumes it"),
    ],
)
def test_why_there_is_no_daemon_and_how_the_run_goes_on(changes: dict[str, Any], words: str) -> None:
    run = {
        "plan": "smoke",
        "source": "built-in",
        "hardware": {},
        "desired": "run",
        "reason": None,
        "failure": None,
    } | changes
    assert why_no_daemon(run).endswith(words)


def test_a_number_of_trials_that_a_person_has_set_is_not_called_automatic() -> None:
    by_a_person = experiment(spec={**CHOSEN, "concurrency": 3, "auto_concurrency": False})
    text = status_text.status(view(by_a_person))
    assert "3 x 4 cores" in text
    assert "auto" not in text
    assert "auto 2 x 4 cores" in status_text.status(view(experiment(spec=CHOSEN)))
