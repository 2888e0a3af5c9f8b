"""Modules that the daemon imports (grids, memory, manifests) load the standard library only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waits import NET_S

ROOT = Path(__file__).parents[3]
LIGHT = [
    "settings", "config_readers", "atomic_file", "grid", "memory", "data.manifest", "errors", "environment", "schedule",
]  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_outside_the_standard_library(module: str) -> None:
    script = (
        f"import sys, training.{module}\n"
        "tops = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'training', '__main__'}))"
    )
    # -I keeps site hooks of the environment's packages out of the answer, -S the packages themselves.
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=NET_S, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_training_room_imports_neither_ray_nor_its_neighbours() -> None:
    for path in sorted((ROOT / "training").rglob("*.py")):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in {"ray", "optuna", "supervisor", "actors", "tune_configs"}, path
