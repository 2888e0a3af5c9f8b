"""Check what the long-lived processes load: each megabyte stays for weeks, and each import delays a start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from tests.unit.preflight.test_estimate import dataset
from tests.waits import NET_S

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {
    "ray", "torch", "numpy", "pandas", "pyarrow", "optuna", "scipy", "sklearn", "matplotlib", "talib", "arch",
    "exchange_calendars", "apprise", "prometheus_client", "ruamel",
}  # fmt: skip
FIGURES = """
from supervisor.daemon.assembly import known_trial_seconds, skip_reason
from supervisor.home import Home
from supervisor.preflight.checkpoint_space import hold_bytes
from supervisor.preflight.work_figures import work_figures
home = Home(Path({home!r}))
specs = json.loads(Path({specs!r}).read_text())
figures = work_figures(home, specs, 2)
assert len(figures) == len(specs), figures
assert all(known_trial_seconds(home, spec, 2) for spec in specs)
assert [skip_reason(spec) for spec in specs] == [None] * len(specs)
assert hold_bytes({{}}) > 0
"""
"""The estimates that the daemon makes during a run; they import parts of training."""


def packages_after(code: str, folder: Path) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after `code`."""
    ends = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import json, sys\nfrom pathlib import Path\n{code}\n{ends}"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(CHECKOUT)}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_daemon_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = packages_after("import supervisor.daemon.__main__", tmp_path)
    assert {"aiohttp", "supervisor"} <= loaded
    assert loaded & (HEAVY | {"actors"}) == set()


def test_the_daemons_estimates_load_nothing_heavy(tmp_path: Path) -> None:
    specs = expand(load_plan("phase6a").plan, 25, dataset(tmp_path), only="2M")
    file = tmp_path / "specs.json"
    file.write_text(json.dumps([spec.model_dump(mode="json") for spec in specs]))
    (tmp_path / "state").mkdir()
    code = "import supervisor.daemon.__main__" + FIGURES.format(home=str(tmp_path), specs=str(file))
    loaded = packages_after(code, tmp_path)
    assert "training" in loaded
    assert loaded & HEAVY == set()


def test_the_watchdog_loads_nothing_heavy_beside_what_its_ray_worker_does(tmp_path: Path) -> None:
    assert packages_after("import actors.watchdog.actor", tmp_path) & HEAVY == set()


@pytest.mark.parametrize("module", ["supervisor.processes.guardian", "supervisor.processes.print_pump"])
def test_a_small_helper_loads_the_standard_library_only(module: str, tmp_path: Path) -> None:
    others = packages_after(f"import {module}", tmp_path) - set(sys.stdlib_module_names) - {"supervisor"}
    assert {name for name in others if not name.startswith(("_", "sitecustomize"))} == set()


def test_the_driver_loads_pandas_only_because_ray_tune_does_and_no_torch(tmp_path: Path) -> None:
    """Tune loads pandas, and pyarrow with it; when this fails there, Ray has learned to do without."""
    of_tune = packages_after("from ray import tune", tmp_path)
    assert {"pandas", "pyarrow"} <= of_tune
    code = "import actors.driver.__main__ as driver\ndriver._import_libraries()"
    loaded = packages_after(code, tmp_path)
    assert {"ray", "optuna"} <= loaded
    assert loaded & (HEAVY - of_tune - {"optuna", "scipy"}) == set()
    assert "torch" not in loaded


def test_a_heavy_package_would_be_seen(tmp_path: Path) -> None:
    assert "numpy" in packages_after("import supervisor.daemon.__main__, numpy", tmp_path)
