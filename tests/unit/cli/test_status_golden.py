"""The whole text of `status`: a golden output, its width, its colours, what comes first."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli import status_text
from supervisor.cli.attention import URGENT
from supervisor.formatting import folded, number
from tests.unit.cli.status_view import CHOSEN, HOUR, NOW, TRACEBACK, command, experiment, node, trial, untouched, view

GOLDEN = """\
! WAITING: a trial needs 1 gpu
! PAUSED (running trials finish) by ann: visitors, for 1 min 30 s; `supervisorctl resume` lifts it
! 20M-h3 failed: ValueError: n is three (mine.py, line 6); `supervisorctl retry` tries again
! 20M-h5 has no answer: its test was opened once; `supervisorctl retry` tries again
! failed trials: 2 oom; `supervisorctl retry` tries again
phase6a-20231114-221320  RUNNING   ETA 32 min 35 s, up 2 h 00 min, pid 42
  80 % likely if resumed now: 25 min 00 s to 43 min 00 s; 71 C, pauses at 92 C; 4.0 GiB of disk free
  THROTTLE by governor: warm, for 1 min 30 s
2M-h1     EXITED    50/50 trials, best 0.6543, final 0.6571, test 0.6602, took 1 h 00 min
20M-h3    FATAL     ValueError: n is three (mine.py, line 6)
20M-h5    EXITED    50/50 trials, 1 failed (oom), NO ANSWER, best 1.234e-05, took 1 h 00 min
200M-h1   RUNNING   35/50 trials, ETA 32 min 35 s, 1 failed (oom), best 0.6543, final 0.6571
    search and finalisation: 30 done, 9 running, 4 pruned, 1 failed of 50, 80 % likely: 25 min 00 s to \
43 min 00 s, 2 h 00 min of 10 h 00 min left, auto 2 x 4 cores
    trial 35: epoch 1 of 20; trial 36: epoch 1 of 20; trial 37: epoch 1 of 20; trial 38: epoch 1 of 20; trial \
39: epoch 1 of 20; trial 40: epoch 1 of 20; trial 41: epoch 1 of 20; trial 42: epoch 1 of 20; and 1 more
    best of the search 0.6543 (trial 4, partly luck), the class prior 0.665
    final 0.6571, mean of 3 fresh seeds
2B-h5     SKIPPED   it needs 31 GB, there are 16
  lost, over all trials: heat 1 min 00 s
  dashboard http://127.0.0.1:8265
  log /h/logs/smoke.jsonl
"""


def a_long_run() -> dict[str, Any]:
    """Return the view of a run with something of each kind."""
    ended = {"state": "EXITED", "running": [], "ended": 50, "ended_wall": NOW}
    best = {"value": 0.6543, "trial": 4, "params": {}, "prior": 0.6650}
    final = {"val_loss": 0.6571, "seeds": [1, 2, 3]}
    tested = {"models": {"patchtst": {"test": {"bce": {"value": 0.6602}}}}}
    at_work = experiment(
        "200M-h1", ended=35, counts={"finished": 30, "pruned": 4, "oom": 1}, doing="search and finalisation",
        running=[trial(number, 1, state="PENDING", since_wall=None) for number in range(35, 44)], left_s=2 * HOUR,
        best=best, finalized=final, spec={**CHOSEN, "max_hours": 10.0},
    )  # fmt: skip
    hot = {"kind": "temperature", "value": 71.0, "limits": {"soft": 85.0, "pause": 92.0, "critical": 99.0}}
    cool = {"kind": "temperature", "value": 75.0, "limits": {"soft": 95.0, "pause": 105.0, "critical": 110.0}}
    changes: dict[str, Any] = {
        "commands": [command("HOLD")], "shortage": "a trial needs 1 gpu",
        "nodes": {"n": node(command=command("THROTTLE", "governor", reason="warm"), readings=[cool, hot])},
        "disk": {"full": False, "free_bytes": 4 << 30, "enough_bytes": 1, "folder": "/h"},
        "lost": [{"experiment": "2M-h1", "trial": 1, "cause": "heat", "seconds": 60.0}],
    }  # fmt: skip
    long = view(
        experiment("2M-h1", **ended, best=best, finalized=final, evaluation=tested),
        experiment("20M-h3", "FATAL", reason=TRACEBACK, counts={}, running=[]),
        experiment("20M-h5", **ended, counts={"finished": 49, "oom": 1}, missing="its test was opened once",
                   best={**best, "value": 0.00001234}),
        at_work,
        experiment("2B-h5", "SKIPPED", reason="it needs 31 GB, there are 16", counts={}, running=[]),
        **changes,
    )  # fmt: skip
    long["run"] |= {"id": "phase6a-20231114-221320", "plan": "phase6a"}
    return long


def test_status_of_a_long_run_begins_with_what_needs_a_person() -> None:
    assert status_text.status(a_long_run()) + "\n" == GOLDEN


@pytest.mark.parametrize(
    ("one", "cure"),
    [
        (command("PAUSE"), "supervisorctl resume"),
        (command("PAUSE", scope="2M-h1/17"), "supervisorctl resume 2M-h1/17"),
        (command("HOLD", scope="3f" * 28), "supervisorctl resume --node 3f3f3f3f3f3f"),
        (command("STOP", "governor"), "supervisorctl resume --force"),
    ],
)
def test_what_holds_until_a_person_lifts_it_comes_first_with_its_cure(one: dict[str, Any], cure: str) -> None:
    first = status_text.status(view(experiment(), commands=[one])).splitlines()[0]
    assert first.startswith("! PAUSED")
    assert first.endswith(f"; `{cure}` lifts it")


@pytest.mark.parametrize("action", ["HOLD", "SHED", "THROTTLE", "PAUSE"])
def test_what_the_governor_lifts_by_itself_stands_below_the_run(action: str) -> None:
    held = view(experiment(), nodes={"n": node(command=command(action, "governor", reason="92 C"))})
    lines = status_text.status(held).splitlines()
    assert lines[0].startswith("smoke-20231114-221320  RUNNING ")
    assert "by governor: 92 C, for 1 min 30 s" in lines[2]
    assert "no action in force" not in "".join(lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00001234, "1.234e-05"), (0.25, "0.25"), (0.0, "0"), (-0.693147, "-0.6931"), (12345.678, "12346"),
        (3.0e12, "3e+12"), (None, "-"),
    ],
)  # fmt: skip
def test_a_value_keeps_its_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.text(max_size=300), st.integers(10, 120), st.sampled_from(["", "  ", "    "]))
def test_folded_text_keeps_its_words_and_its_width(text: str, columns: int, indent: str) -> None:
    lines = folded(text, columns, indent)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= columns or len(line.split()) == 1 for line in lines)


def test_twelve_experiments_fit_on_a_screen_of_80_columns() -> None:
    names = [f"{budget}-h{horizon}" for budget in ("2M", "20M", "200M", "2B") for horizon in (1, 3, 5)]
    best = {"value": 0.6543, "trial": 4, "params": {}, "prior": 0.665}
    over = {"state": "EXITED", "running": [], "ended": 50, "ended_wall": NOW, "best": best}
    ended = [experiment(name, **over, finalized={"val_loss": 0.6571, "seeds": [1]}) for name in names[:5]]
    found = view(*ended, experiment(names[5], best=best), *(untouched(name) for name in names[6:]))
    lines = status_text.status(found, 80).splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in (*lines, *status_text.status(a_long_run(), 80).splitlines()))


def test_colour_changes_no_word_and_marks_what_needs_a_person_alone() -> None:
    plain, coloured = (status_text.status(a_long_run(), 80, colour=colour) for colour in (False, True))
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert "\x1b" not in plain
    urgent = [line for line in coloured.splitlines() if line.startswith(f"\x1b[{URGENT}m")]
    assert urgent == coloured.splitlines()[: len(urgent)], "they come first"
    assert plain.splitlines()[len(urgent)].startswith("phase6a-20231114-221320  RUNNING ")
