"""The report's process that starts before the run's end: it draws ahead, and its loss costs only its head start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from supervisor.processes.guardian import end_group
from supervisor.report import process
from supervisor.report.__main__ import Figures
from supervisor.report.drawing import style
from supervisor.report.process import ReportAhead, write_report
from supervisor.report.view import read_view
from tests.unit.report.run_views import NOW, experiment, snapshot_of, ten_trials


def snapshot(**states: str) -> dict[str, Any]:
    """Return the snapshot of a run with an experiment for each name and state."""
    return snapshot_of(*(experiment(name, state, ten_trials()) for name, state in states.items()))


LAST = snapshot(a="EXITED")


def test_the_process_that_waits_writes_the_report_of_the_last_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        ahead = ReportAhead(tmp_path / "run")
        await ahead.start(snapshot(a="EXITED", b="RUNNING"))
        assert ahead.waits
        monkeypatch.setattr(process, "write_report", None)  # there is no other process
        path = await ahead.write(snapshot(a="EXITED", b="EXITED"))
        assert path == tmp_path / "run" / "report.html"
        assert not ahead.waits

    asyncio.run(story())
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} >= {"a-search.png", "b-search.png"}


def test_a_report_ahead_has_the_same_page(tmp_path: Path) -> None:
    async def story() -> None:
        ahead = ReportAhead(tmp_path / "ahead")
        await ahead.start(snapshot(a="EXITED", b="RUNNING"))
        await ahead.write(snapshot(a="EXITED", b="EXITED"))
        await write_report(snapshot(a="EXITED", b="EXITED"), tmp_path / "plain")

    asyncio.run(story())
    for name in ("figures/a-search.png", "figures/b-search.png", "results.csv"):
        assert (tmp_path / "ahead" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_process_that_died_while_it_waited_is_replaced(tmp_path: Path) -> None:
    async def story() -> Path:
        ahead = ReportAhead(tmp_path / "run")
        await ahead.start(LAST)
        assert ahead._waiting is not None
        end_group(ahead._waiting.pid, 0.0)
        return await ahead.write(LAST)

    assert asyncio.run(story()).exists()


def test_a_snapshot_that_cannot_be_drawn_ahead_does_not_keep_the_report_from_the_last_one(tmp_path: Path) -> None:
    async def story() -> Path:
        ahead = ReportAhead(tmp_path / "run")
        await ahead.start({"nothing": "of use"})
        return await ahead.write(LAST)

    assert asyncio.run(story()).exists()


def test_a_process_that_cannot_start_early_costs_only_its_head_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> Path:
        ahead = ReportAhead(tmp_path / "run")
        with monkeypatch.context() as patch:
            patch.setattr(process, "python_module", lambda *_: (str(tmp_path / "no-python"),))
            await ahead.start(LAST)
        assert not ahead.waits
        return await ahead.write(LAST)

    assert asyncio.run(story()).exists()


def test_a_process_that_is_not_needed_ends_with_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def story() -> int:
        ahead = ReportAhead(tmp_path / "run")
        await ahead.start(LAST)
        assert ahead._waiting is not None
        pid = ahead._waiting.pid
        await ahead.end()
        return pid

    assert not psutil.pid_exists(asyncio.run(story()))
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_drawn_once_for_the_same_content() -> None:
    figures = Figures()
    first, second = (read_view(snapshot(a="EXITED", b=state), NOW) for state in ("RUNNING", "EXITED"))
    with style():
        before, after = figures.of_all(first), figures.of_all(second)
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
