"""Play a busy run's day in minutes, and measure whether the daemon grows or slows.

    python -m benchmarks.soak [--hours 24] [--events 100000] [--out docs/pictures/soak]

The daemon, its store, log, socket and pipes are the real ones. The driver is a real process that plays a scenario
instead of training (soak_driver); it moves the clock, and measures the daemon every simulated half hour. Twelve
experiments, one driver each. The verdict is by Theil-Sen slopes (Sen, J. Am. Stat. Assoc. 63, 1968) over the day. Exit
code 1 when something grew that should not, or the audit finds a broken promise. The home is in memory where the system
has such a folder, so that the disk's own time is not measured.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import theilslopes

from benchmarks.machine import machine
from benchmarks.stages.soak_driver import AT_ONCE, SCENARIO_VARIABLE, Measurement, Scenario
from supervisor.audit import evidence as audit_evidence
from supervisor.audit import invariants
from supervisor.audit.rotation import Limits
from supervisor.cli import launch
from supervisor.home import Home
from supervisor.store.database import read_only

EXPERIMENTS = 12
TRIALS = 100
LIMIT_S = 1800.0
CHECKOUT = Path(__file__).resolve().parents[1]
SETTLED_H = 1.0
"""The first hour fills caches and pools."""
MIB = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """The growth of one figure; `slope` is per simulated day, in the unit of `typical`, the median."""

    name: str
    typical: float
    slope: float
    unit: str
    allowed: str
    holds: bool


def scenario_of(home: Path, table: Path, hours: float, events: int, experiments: int = EXPERIMENTS) -> Scenario:
    """Return a scenario with as many epochs as make about `events` events."""
    trials = TRIALS if events >= EXPERIMENTS * TRIALS * 6 else AT_ONCE
    # A trial's other events: added, started, its end, and its share of pauses, losses and hardware events.
    epochs = max(2, round(events / experiments / trials / 1.03) - 4)
    return Scenario(str(home), str(table), hours, experiments, trials, epochs)


def live(scenario: Scenario) -> list[Measurement]:
    """Play the scenario; return the measurements. Raises CalledProcessError when the daemon did not end well."""
    told = json.dumps(dataclasses.asdict(scenario))
    environment = {**os.environ, **launch.MALLOC, SCENARIO_VARIABLE: told, "PYTHONPATH": str(CHECKOUT)}
    with (Path(scenario.home) / "daemon.out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", "import sys; from benchmarks.stages.soak_daemon import main; sys.exit(main())"],
            env=environment, cwd=CHECKOUT, stdout=out, stderr=out, timeout=LIMIT_S, check=True,
        )  # fmt: skip
    return read(Path(scenario.table))


def read(table: Path) -> list[Measurement]:
    """Read the table's rows; an empty cell becomes None."""
    kinds = {field.name: int if field.type == "int" else float for field in dataclasses.fields(Measurement)}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Measurement(**{name: kinds[name](text) if text else None for name, text in row.items()}) for row in rows]


def judge(measurements: list[Measurement]) -> list[Verdict]:
    """Judge the figures that must stay flat, and those that may grow with the kept data only."""
    settled = [each for each in measurements if each.hour > SETTLED_H] or measurements
    return [
        _flat(settled, "rss_bytes", "MiB", 1 / MIB, share=0.05),
        _flat(settled, "descriptors", "", 1.0, absolute=0.5),
        _flat(settled, "threads", "", 1.0, absolute=0.5),
        _flat(settled, "status_p50_s", "ms", 1e3, share=0.25, absolute=1.0),
        _flat(settled, "status_p99_s", "ms", 1e3, share=0.5, absolute=3.0),
        _flat(settled, "commit_p50_s", "ms", 1e3, share=0.25, absolute=0.25),
        _flat(settled, "wal_bytes", "MiB", 1 / MIB, share=0.05, absolute=0.5),
        _per_event(measurements),
        _bounded(measurements),
    ]


def _flat(
    measurements: list[Measurement], name: str, unit: str, scale: float, share: float = 0.0, absolute: float = 0.0
) -> Verdict:
    """Judge a flat figure: in a day it may grow by `share` of its median or by `absolute` units, the larger one."""
    values = np.array([getattr(each, name) for each in measurements]) * scale
    slope = 24.0 * float(theilslopes(values, [each.hour for each in measurements])[0])
    typical = float(np.median(values))
    allowed = max(share * typical, absolute)
    return Verdict(
        name, typical, slope, unit, f"at most {allowed:.3g} {unit} a day".replace("  ", " "), slope <= allowed
    )


def _per_event(measurements: list[Measurement]) -> Verdict:
    """Judge the store's bytes an event: they must not rise from the day's first quarter to its last."""
    tail = measurements[-max(1, len(measurements) // 4) :]
    early = [each.store_bytes / each.events for each in measurements[: max(1, len(measurements) // 4)]]
    late = (tail[-1].store_bytes - tail[0].store_bytes) / max(1, tail[-1].events - tail[0].events)
    return Verdict(
        "store bytes an event", float(np.median(early)), late - float(np.median(early)), "B",
        "no more late than early", late <= 1.1 * max(early),
    )  # fmt: skip


def _bounded(measurements: list[Measurement]) -> Verdict:
    largest = max(each.log_bytes for each in measurements) / MIB
    bound = Limits().max_bytes / MIB
    return Verdict(
        "log at work", largest, 0.0, "MiB", f"never over {bound:.0f} MiB, then rotated", largest <= bound * 1.01
    )


def render(measurements: list[Measurement], verdicts: list[Verdict], wall_s: float) -> str:
    last = measurements[-1]
    lines = [
        f"{last.hour:.1f} simulated hours, {last.events} events in {wall_s:.0f} s; {machine()}",
        f"{'':<22}{'median':>10}{'a day':>10}  unit  verdict",
    ]
    lines += [
        f"{v.name:<22}{v.typical:>10.3f}{v.slope:>+10.3f}  {v.unit:<5} {'flat' if v.holds else 'GROWS'}: {v.allowed}"
        for v in verdicts
    ]
    lines.append(
        f"at the end: store {last.store_bytes / MIB:.1f} MiB, log {last.log_parts_bytes / MIB:.1f} MiB in all,"
        f" {last.readings} minutes of readings, status with every trial {(last.full_status_s or 0.0) * 1e3:.0f} ms"
    )
    return "\n".join(lines)


def draw(measurements: list[Measurement], out: Path) -> None:
    """Draw OUT.png and OUT.svg."""
    hours = [each.hour for each in measurements]
    panels: list[tuple[str, list[tuple[str, list[float]]]]] = [
        ("memory, MiB", [("daemon, resident", [each.rss_bytes / MIB for each in measurements])]),
        ("number", [("open descriptors", [each.descriptors for each in measurements]),
                    ("threads", [each.threads for each in measurements])]),
        ("answer to status, ms", [("median of 20", [each.status_p50_s * 1e3 for each in measurements]),
                          ("slowest of 20", [each.status_p99_s * 1e3 for each in measurements])]),
        ("message to acknowledgement, ms", [("median", [each.commit_p50_s * 1e3 for each in measurements]),
                                 ("99 of 100", [each.commit_p99_s * 1e3 for each in measurements])]),
        ("files, MiB", [("store", [each.store_bytes / MIB for each in measurements]),
                        ("its write-ahead log", [each.wal_bytes / MIB for each in measurements]),
                        ("event log at work", [each.log_bytes / MIB for each in measurements]),
                        ("event log, all parts", [each.log_parts_bytes / MIB for each in measurements])]),
        ("events, thousands", [("in the store", [each.events / 1e3 for each in measurements])]),
    ]  # fmt: skip
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    grid = figure.subplots(3, 2, sharex=True)
    for axes, (label, lines) in zip(grid.flat, panels, strict=True):
        for name, values in lines:
            axes.plot(hours, values, label=name, linewidth=1.2, marker=".", markersize=3)
        axes.set_ylim(0, 1.15 * max(max(values) for _, values in lines))
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("simulated hours")
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg"):
        figure.savefig(out.with_suffix(suffix), dpi=110)


def broken_promises(home: Home) -> list[str]:
    """List the promises of the day's run that the audit finds broken."""
    with read_only(home.store) as connection:
        evidence = audit_evidence.gather(home, connection, "soak")
    verdicts = invariants.check(evidence)
    return [fault for verdict in verdicts for fault in verdict.faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=None, help="draw a picture at this path, without its suffix")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="soak-", dir=memory if memory.is_dir() else None) as folder:
        begun = time.monotonic()
        home, table = Path(folder), Path(tempfile.mkdtemp(prefix="soak-")) / "soak.csv"
        measurements = live(scenario_of(home, table, arguments.hours, arguments.events))
        verdicts = judge(measurements)
        print(render(measurements, verdicts, time.monotonic() - begun))
        broken = broken_promises(Home(home))
        print(*(broken or ["the audit finds nothing broken"]), sep="\n")
    print(f"table: {table}")
    if arguments.out is not None:
        draw(measurements, arguments.out)
        print(f"picture: {arguments.out.with_suffix('.png')}")
    return 0 if not broken and all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
