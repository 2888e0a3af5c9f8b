"""Test the ETA as `status` and `wait` print it; domain/eta tests the figures themselves."""

from __future__ import annotations

import pytest

from supervisor.cli import status_text
from supervisor.formatting import eta_range, eta_short, eta_words
from tests.unit.cli.status_view import ETA, ETA_WORDS, NOW, command, experiment, untouched, view


def test_the_run_and_each_experiment_at_work_have_their_own() -> None:
    own = {"median_s": 60.0, "low_s": 50.0, "high_s": 90.0}
    lines = status_text.status(view(experiment(eta=own), untouched("b"))).splitlines()
    assert "ETA 32 min 35 s" in lines[0]
    assert lines[1].startswith("  80 % likely: 25 min 00 s to 43 min 00 s")
    assert "ETA 1 min 00 s" in lines[2]
    assert lines[3].endswith("80 % likely: 50 s to 1 min 30 s")
    assert "ETA" not in "".join(line for line in lines if line.startswith("b "))


def test_wait_shows_the_same_figures_as_status() -> None:
    shown = view(experiment())
    assert ETA_WORDS in status_text.progress(shown)
    text = status_text.status(shown)
    assert eta_short(ETA) in text
    assert eta_range(ETA)[0] in text


def test_in_a_persons_pause_it_says_that_it_assumes_a_resume() -> None:
    paused = view(experiment(state="PAUSED"), commands=[command("PAUSE")])
    assert "80 % likely if resumed now: 25 min 00 s to" in status_text.status(paused)
    assert f"{ETA_WORDS} if resumed now" in status_text.progress(paused)
    for other in (command("PAUSE", scope="2M-h1/17"), command("PAUSE", "schedule", until_wall=NOW + 60.0)):
        assert "if resumed now" not in status_text.status(view(experiment(), commands=[other]))
    assert "if resumed now" not in status_text.status(view(experiment(eta=None), commands=[command("PAUSE")], eta=None))


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED"])
def test_an_unknown_end_is_said_to_be_unknown(state: str) -> None:
    unknown = view(experiment(state=state, eta=None), eta=None)
    assert "ETA ?" in status_text.progress(unknown)
    assert "ETA ?" in status_text.status(unknown).splitlines()[0]
    assert "80 %" not in status_text.status(unknown)


def test_the_interval_stands_beside_the_median() -> None:
    assert eta_words(ETA) == ETA_WORDS
    assert eta_words(None) == "ETA ?"
