"""The check of a user's trainable runs its import in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.plan.loader import load_plan
from supervisor.preflight.machine import Level
from supervisor.preflight.trainable import check_trainable
from supervisor.processes.environment import OWNER


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        ("import os\nos._exit(9)\n", Level.ERROR, "ended its process with status 9"),
        ("print('{}')\ndef objective(config): pass\n", Level.OK, "can be imported"),
        (
            f"import os\nif {OWNER!r} in os.environ: os._exit(8)\ndef objective(config): pass\n",
            Level.OK,
            "can be imported",
        ),
    ],
    ids=["ends", "prints", "is no child of a daemon, which would end it as an orphan when it stops"],
)
def test_a_module_may_print_or_end_its_process(tmp_path: Path, text: str, level: Level, said: str) -> None:
    (tmp_path / "own_module.py").write_text(text)
    plan = tmp_path / "own.yaml"
    plan.write_text(
        "name: own\ntrainable: own_module:objective\nspace: {x: {type: int, low: 0, high: 1}}\n"
        "max_trials: 1\nmax_epochs: 1\n"
    )
    home = Home(tmp_path / "home")
    home.root.mkdir()
    found = check_trainable(home, load_plan(plan))
    assert found.level is level
    assert said in found.detail


def test_a_built_in_trainable_needs_no_import(tmp_path: Path) -> None:
    assert check_trainable(Home(tmp_path), load_plan("smoke")).level is Level.OK
