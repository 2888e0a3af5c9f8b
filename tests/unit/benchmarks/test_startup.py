"""The benchmark of the seconds around the trials: it reads them from a run's events, and draws them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.startup import __main__ as command
from benchmarks.startup import seconds
from benchmarks.startup.picture import picture


def events(*told: tuple[float, str, str | None]) -> list[dict[str, Any]]:
    return [
        {"ts": datetime.fromtimestamp(at, UTC).isoformat(), "event": name, "experiment": experiment}
        for at, name, experiment in told
    ]


RUN = events(
    (1.0, "daemon.started", None),
    (5.0, "ray.started", None),
    (5.5, "run.started", None),
    (6.0, "driver.started", "a"),
    (7.0, "experiment.started", "a"),
    (9.0, "trial.started", "a"),
    (10.0, "trial.reported", "a"),
    (20.0, "trial.failed", "a"),
    (21.0, "trial.finished", "a"),
    (22.0, "test.opened", "a"),
    (24.0, "test.scored", "a"),
    (25.0, "experiment.finished", "a"),
    (25.5, "driver.started", "b"),
    (26.5, "experiment.started", "b"),
    (27.5, "trial.started", "b"),
    (28.0, "trial.reported", "b"),
    (40.0, "trial.finished", "b"),
    (41.5, "experiment.finished", "b"),
    (41.75, "run.finished", None),
    (45.75, "report.written", None),
)


def test_the_seconds_of_a_run_are_those_between_its_events() -> None:
    found = seconds.seconds_of(0.0, RUN)
    assert list(found) == ["start", "next 1", "end"]
    assert list(found["start"].values()) == [1.0, 4.0, 1.0, 1.0, 2.0, 1.0]
    assert list(found["next 1"].values()) == [1.0, 3.0, 0.5, 1.0, 1.0, 0.5]
    assert list(found["end"].values()) == [1.5, 0.0, 0.25, 4.0]
    assert seconds.total(found["start"], "the first trial starts") == 9.0
    assert seconds.total(found["end"], "the report is written") == 5.75


def test_an_unfinished_run_has_the_seconds_that_it_came_to() -> None:
    found = seconds.seconds_of(0.0, RUN[:3])
    assert list(found) == ["start"]
    assert seconds.total(found["start"], "the first trial starts") is None


def test_the_table_has_medians_and_a_column_for_each_checkout() -> None:
    slower = seconds.seconds_of(-2.0, RUN)
    text = seconds.table({"before": [slower], "now": [seconds.seconds_of(0.0, RUN)]})
    assert "| seconds | before | now |" in text
    assert "| **`start` to the first trial** | **11.0** | **9.0** |" in text
    assert "| … the report is written | 4.0 | 4.0 |" in text


def test_the_picture_is_well_formed_and_has_a_bar_of_each_part_and_checkout() -> None:
    found = seconds.bars({"before": [seconds.seconds_of(0.0, RUN)], "now": [seconds.seconds_of(0.0, RUN)]})
    root = ElementTree.fromstring(picture("Seconds <of> a run", found))
    told = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert told.count("before") == told.count("now") == 3
    assert "Seconds <of> a run" in told


def test_a_picture_without_seconds_can_be_drawn() -> None:
    assert "0.0 s" in picture("nothing", seconds.bars({"now": [{}]}))


def test_the_number_of_runs_must_be_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["startup", "--runs", "0"])
    with pytest.raises(SystemExit):
        command.main()
