"""The benchmark of the cores' use: stages from events, samples weighed over them, the table and the picture."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.utilisation.__main__ import daemon_of, wait_for_report
from benchmarks.utilisation.picture import MAX_POINTS, picture, thinned
from benchmarks.utilisation.samples import cpu_seconds, used_since
from benchmarks.utilisation.stages import STAGES, Sample, Span, Use, seconds_by_stage, spans, table, use_of
from supervisor.domain.finalists import SOURCE as FINALISED

SVG = "{http://www.w3.org/2000/svg}"


def event(at_s: float, name: str, experiment: str = "e", trial: int | None = None, **fields: Any) -> dict[str, Any]:
    ts = datetime.fromtimestamp(at_s, UTC).isoformat()
    return {"ts": ts, "event": name, "experiment": experiment, "trial": trial, **fields}


RUN = [
    event(1.0, "daemon.started"),
    event(5.0, "trial.added", trial=0, source="sampled"),
    event(5.0, "trial.started", trial=0),
    event(9.0, "trial.finished", trial=0),
    event(10.0, "trial.added", trial=1, source=FINALISED),
    event(10.0, "trial.started", trial=1),
    event(11.0, "trial.added", "f", 0, source="sampled"),
    event(11.0, "trial.started", "f", 0),
    event(13.0, "trial.failed", "f", 0),
    event(15.0, "trial.finished", trial=1),
    event(15.0, "test.opened"),
    event(17.0, "test.scored"),
    event(18.0, "run.finished"),
    event(20.0, "report.written"),
    event(30.0, "daemon.stopped"),
]
EXPECTED = [
    Span("start", 0.0, 5.0),
    Span("search", 5.0, 9.0),
    Span("between", 9.0, 10.0),
    Span("finalisation", 10.0, 11.0),
    Span("search", 11.0, 13.0),
    Span("finalisation", 13.0, 15.0),
    Span("test", 15.0, 17.0),
    Span("between", 17.0, 18.0),
    Span("report", 18.0, 20.0),
]


def test_a_moment_belongs_to_the_stage_of_what_runs_then() -> None:
    assert spans(0.0, RUN) == EXPECTED


def test_a_paused_trial_does_not_run() -> None:
    paused = [*RUN[:3], event(6.0, "trial.paused", trial=0), event(8.0, "trial.resumed", trial=0), RUN[3]]
    assert spans(0.0, paused)[1:] == [Span("search", 5.0, 6.0), Span("between", 6.0, 8.0), Span("search", 8.0, 9.0)]


@given(st.integers(0, len(RUN) - 1))
def test_the_stages_of_any_part_of_a_run_follow_one_another_without_a_gap(count: int) -> None:
    found = spans(0.0, RUN[:count])
    assert all(before.to_s == after.from_s for before, after in pairwise(found))
    last_s = datetime.fromisoformat(RUN[count - 1]["ts"]).timestamp() if count else 0.0
    assert sum(seconds_by_stage(found).values()) == pytest.approx(min(last_s, 20.0))


def test_samples_are_weighed_by_their_overlap_with_a_stage() -> None:
    samples = [Sample(0.0, 2.0, 1.0, 2.0), Sample(2.0, 6.0, 2.0, 2.0)]
    assert use_of(samples, [Span("search", 1.0, 3.0)]) == Use(2.0, 1.5, 2.0)
    assert use_of(samples, [Span("search", 7.0, 9.0)]) is None
    assert use_of([], EXPECTED) is None


def test_the_table_has_each_stage_and_the_whole_in_per_cent_of_all_cores() -> None:
    samples = [Sample(0.0, 5.0, 0.5, 1.0), Sample(5.0, 20.0, 2.0, 2.0)]
    told = table({"before": (samples, EXPECTED), "now": (samples, EXPECTED)}, cores=2)
    assert "| start | 5 | 25% | 50% | 5 | 25% | 50% |" in told
    assert "| all | 20 | 81% | 88% | 20 | 81% | 88% |" in told
    assert all(f"| {stage} |" in told for stage in STAGES)
    assert "| start | 0 | – | – |" in table({"now": ([], [])}, cores=2)


def test_a_process_that_is_new_used_all_that_it_has_and_one_that_ended_is_left_out() -> None:
    assert used_since({(1, 0.5): 3.0, (2, 0.5): 9.0}, {(1, 0.5): 4.0, (3, 0.7): 0.5}) == 1.5


def test_the_sampling_process_itself_is_not_counted() -> None:
    assert os.getpid() not in {pid for pid, _ in cpu_seconds([os.getpid()])}
    # The parent is a root of its own, and so is in it.
    assert os.getppid() in {pid for pid, _ in cpu_seconds([os.getppid()])}


def test_a_long_run_is_drawn_by_means_of_neighbours() -> None:
    samples = [Sample(float(second), second + 1.0, second % 2, 1.0) for second in range(4 * MAX_POINTS)]
    found = thinned(samples)
    assert len(found) == MAX_POINTS
    assert {sample.run_cores for sample in found} == {0.5}
    assert (found[0].from_s, found[-1].to_s) == (0.0, 4.0 * MAX_POINTS)
    assert thinned([]) == []


def test_the_picture_is_well_formed_and_has_the_stages_and_both_areas_of_each_checkout() -> None:
    samples = [Sample(float(second), second + 1.0, 1.0, 2.5) for second in range(20)]
    root = ElementTree.fromstring(picture("Use <of> cores", {"before": (samples, EXPECTED), "now": ([], [])}, 2))
    told = [each.text for each in root.iter(f"{SVG}text")]
    assert {"before", "now", "Use <of> cores", "0 s", "20 s", *STAGES} <= set(told)
    assert len(list(root.iter(f"{SVG}polygon"))) == 2
    titles = [each.text for each in root.iter(f"{SVG}title")]
    assert titles == [f"{span.stage}: {span.to_s - span.from_s:.1f} s" for span in EXPECTED]


def test_the_daemon_is_found_in_the_log_once_its_line_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "smoke.jsonl"
    assert daemon_of(log) is None
    log.write_text('{"event": "daemon.started", "pid": 12}')
    assert daemon_of(log) is None
    log.write_text('{"event": "daemon.started", "pid": 12}\n{"event": "ray.started", "pid": 13}\n')
    assert daemon_of(log) == 12


def test_the_wait_for_a_report_ends_with_it_and_in_any_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "smoke.jsonl"
    log.write_text('{"event":"report.written"}\n')
    wait_for_report(log, within_s=60.0)
    assert capsys.readouterr().err == ""
    wait_for_report(tmp_path / "missing.jsonl", within_s=0.0)
    assert "no report within 0 s" in capsys.readouterr().err
