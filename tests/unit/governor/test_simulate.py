"""A recording plays again, and shows the governor's decisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor.domain.command import Action
from supervisor.errors import UsageError
from supervisor.governor import simulate
from supervisor.governor.policy import Policy
from supervisor.sensors.survey import record


def _trace(path: Path, temperatures: dict[float, float]) -> Path:
    path.write_text("".join(json.dumps({"at_s": at, "celsius": c}) + "\n" for at, c in temperatures.items()))
    return path


def test_a_hot_recording_pauses_and_comes_back_step_by_step(tmp_path: Path) -> None:
    hot = _trace(tmp_path / "hot.jsonl", {0.0: 50.0, 40.0: 99.5, 100.0: 50.0, 2000.0: 50.0})
    rungs = [step.command.action for step in simulate.replay(hot, Policy())]
    assert Action.PAUSE in rungs
    after = rungs[rungs.index(Action.PAUSE) :]
    assert after == sorted(after, reverse=True)
    assert rungs[-1] is Action.RUN


def test_a_cool_recording_leads_to_no_step(tmp_path: Path) -> None:
    assert list(simulate.replay(_trace(tmp_path / "cool.jsonl", {0.0: 50.0, 600.0: 51.0}), Policy())) == []


def test_a_recording_of_this_machine_plays_again(tmp_path: Path) -> None:
    """The file of `sensors --record` is a trace, on a machine with any sensors."""
    file = tmp_path / "here.jsonl"
    assert record(file, 1.0, 0.5) >= 1
    assert all(simulate.render(step) for step in simulate.replay(file, Policy()))


@pytest.mark.parametrize("text", ["", "not json\n", "[1]\n"])
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.jsonl"):
        list(simulate.replay(file, Policy()))
