"""An experiment's spec names its dataset where this home has it, also after the home was moved."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.store import lookups
from supervisor.store.run_writer import create_run
from tests.unit.store.writers import make_writer

FILE = Path("data/processed/SPY_dataset_a25.parquet")


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [(False, True, "here"), (True, True, "there"), (True, False, "there"), (False, False, "there")],
)
def test_a_dataset_is_found_in_a_home_that_was_moved(tmp_path: Path, there: bool, here: bool, expected: str) -> None:
    """The recorded place counts while its file exists: data may lie outside of the home."""
    homes = {"there": tmp_path / "there", "here": tmp_path / "here"}
    for name, exists in (("there", there), ("here", here)):
        (homes[name] / FILE).parent.mkdir(parents=True)
        if exists:
            (homes[name] / FILE).touch()
    (homes["here"] / "state").mkdir()
    store = make_writer(homes["here"] / "state" / "sweep.db").store
    spec = {"name": "y", "mode": "min", "max_trials": 3, "config": {"dataset": str(homes["there"] / FILE)}}
    create_run(
        store, "s", plan="q", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    assert lookups.spec(store, "s", "y")["config"]["dataset"] == str(homes[expected] / FILE)


def test_a_recorded_place_that_only_another_user_may_see_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may see every folder, so the system's refusal is played."""
    there, here = tmp_path / "there" / FILE, tmp_path / "here" / FILE
    here.parent.mkdir(parents=True)
    here.touch()
    real = os.stat

    def stat(path: str | Path, *arguments: object, **named: Any) -> os.stat_result:
        if str(path) == str(there):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    (tmp_path / "here" / "state").mkdir()
    store = make_writer(tmp_path / "here" / "state" / "sweep.db").store
    spec = {"name": "y", "mode": "min", "max_trials": 3, "config": {"dataset": str(there)}}
    create_run(
        store, "s", plan="q", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    monkeypatch.setattr(os, "stat", stat)
    assert lookups.spec(store, "s", "y")["config"]["dataset"] == str(here)
