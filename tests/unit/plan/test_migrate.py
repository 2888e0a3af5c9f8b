"""The worked examples of docs/migrate.md: each plan is loaded and expanded, its function run on a point."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan

PAGE = (Path(__file__).parents[3] / "docs" / "migrate.md").read_text()
BLOCKS = re.compile(r"`(from_\w+\.(?:py|yaml))`:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)
TRAIN = "for epoch in range(3):\n    print(f'epoch {epoch} loss {1 / (epoch + 1):.2e}')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with every file of the page, and the train.py that stays as it is."""
    for name, text in BLOCKS.findall(PAGE):
        (tmp_path / name).write_text(text)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def point(space: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: dimension.get("low", dimension.get("choices", [None])[0]) for name, dimension in space.items()}


@pytest.mark.parametrize(
    ("name", "experiments", "trials", "reports"),
    [("from_optuna", 1, 60, 20), ("from_bash", 2, 3, 3), ("from_wandb", 1, 40, 27)],
)
def test_a_migrated_plan_loads_and_its_function_reports_the_metric(
    folder: Path, name: str, experiments: int, trials: int, reports: int
) -> None:
    loaded = load_plan(folder / f"{name}.yaml")
    specs = expand(loaded.plan)
    assert (len(specs), {spec.max_trials for spec in specs}) == (experiments, {trials})
    file, _, attribute = loaded.plan.trainable.partition(":")
    found = util.spec_from_file_location(file, folder / f"{file}.py")
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    space = {key: dimension.model_dump() for key, dimension in loaded.plan.space.items()}
    for spec in specs:
        reported = list(getattr(module, attribute)({**spec.config, **spec.cell, **point(space)}))
        assert len(reported) == reports <= loaded.plan.max_epochs
        assert all(isinstance(report[loaded.plan.metric], float) for report in reported)


def test_a_program_that_fails_fails_its_trial(folder: Path) -> None:
    (folder / "train.py").write_text("import sys\nprint('loss 0.5')\nsys.exit(3)\n")
    scope: dict[str, Any] = {"__file__": str(folder / "from_bash.py"), "__name__": "from_bash"}
    exec(compile((folder / "from_bash.py").read_text(), "from_bash.py", "exec"), scope)
    with pytest.raises(RuntimeError, match="status 3"):
        list(scope["run"]({"size": "small", "lr": 0.1}))


def test_a_trial_that_ends_early_ends_its_program(folder: Path) -> None:
    (folder / "train.py").write_text("import time\nprint('loss 0.5')\ntime.sleep(3600)\n")
    scope: dict[str, Any] = {"__file__": str(folder / "from_bash.py"), "__name__": "from_bash"}
    exec(compile((folder / "from_bash.py").read_text(), "from_bash.py", "exec"), scope)
    trial = scope["run"]({"size": "small", "lr": 0.1})
    assert next(trial) == {"loss": 0.5}
    trial.close()  # it would wait for an hour
