"""A day of a busy run in a few minutes: does the daemon grow, does it get slower?

    python -m benchmarks.soak [--hours 24] [--events 100000] [--out docs/pictures/soak]

The daemon, its store, log, socket and link are the real ones; the clock is moved on by the driver, a real process that
tells a story instead of training (soak_driver), and measures the daemon every simulated half hour. Twelve experiments,
one driver each. The verdict is by Theil-Sen slopes (Sen, J. Am. Stat. Assoc. 63, 1968) over the day. Exit code 1 when
something grew that should not, or the checker finds a broken promise. The home is in memory where the system has such a
folder, so that the disk's own time is not what is measured.
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

import matplotlib as mpl
import numpy as np
from scipy.stats import theilslopes

from benchmarks.overhead import machine
from benchmarks.soak_driver import AT_ONCE, TOLD_BY_ENVIRONMENT, Look, Tale
from supervisor.audit import evidence as audit_evidence
from supervisor.audit import invariants
from supervisor.audit.rotation import Limits
from supervisor.cli import launch
from supervisor.home import Home
from supervisor.store.database import read_only

mpl.use("Agg")
import matplotlib.pyplot as plt

EXPERIMENTS = 12
TRIALS = 100
LIMIT_S = 1800.0
CHECKOUT = Path(__file__).resolve().parents[1]
SETTLED_H = 1.0
"""The first hour fills caches and pools."""
MIB = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """`slope` is per simulated day, in the unit of `typical`, the median."""

    name: str
    typical: float
    slope: float
    unit: str
    allowed: str
    holds: bool


def tale_of(home: Path, table: Path, hours: float, events: int, experiments: int = EXPERIMENTS) -> Tale:
    """As many epochs as it takes to make about `events` events."""
    trials = TRIALS if events >= EXPERIMENTS * TRIALS * 6 else AT_ONCE
    # A trial's other events: added, started, its end, and its share of holds, losses and weather.
    epochs = max(2, round(events / experiments / trials / 1.03) - 4)
    return Tale(str(home), str(table), hours, experiments, trials, epochs)


def live(tale: Tale) -> list[Look]:
    """The day; what was measured in it. Raises CalledProcessError when the daemon did not end well."""
    told = json.dumps(dataclasses.asdict(tale))
    environment = {**os.environ, **launch.MALLOC, TOLD_BY_ENVIRONMENT: told, "PYTHONPATH": str(CHECKOUT)}
    with (Path(tale.home) / "daemon.out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", "import sys; from benchmarks.soak_life import main; sys.exit(main())"],
            env=environment, cwd=CHECKOUT, stdout=out, stderr=out, timeout=LIMIT_S, check=True,
        )  # fmt: skip
    return read(Path(tale.table))


def read(table: Path) -> list[Look]:
    """The table's rows; an empty cell is None."""
    kinds: dict[str, type] = {field.name: int if field.type == "int" else float for field in dataclasses.fields(Look)}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Look(**{name: kinds[name](text) if text else None for name, text in row.items()}) for row in rows]


def judge(looks: list[Look]) -> list[Verdict]:
    """What must stay as it is, and what may grow only by what it must keep."""
    settled = [each for each in looks if each.hour > SETTLED_H] or looks
    return [
        _flat(settled, "rss_bytes", "MiB", 1 / MIB, share=0.05),
        _flat(settled, "descriptors", "", 1.0, absolute=0.5),
        _flat(settled, "threads", "", 1.0, absolute=0.5),
        _flat(settled, "status_p50_s", "ms", 1e3, share=0.25, absolute=1.0),
        _flat(settled, "status_p99_s", "ms", 1e3, share=0.5, absolute=3.0),
        _flat(settled, "commit_p50_s", "ms", 1e3, share=0.25, absolute=0.25),
        _flat(settled, "wal_bytes", "MiB", 1 / MIB, share=0.05, absolute=0.5),
        _per_event(looks),
        _bounded(looks),
    ]


def _flat(looks: list[Look], name: str, unit: str, scale: float, share: float = 0.0, absolute: float = 0.0) -> Verdict:
    """Flat: over a day it moves by less than `share` of its median, or than `absolute` units, whichever is more."""
    values = np.array([getattr(each, name) for each in looks]) * scale
    slope = 24.0 * float(theilslopes(values, [each.hour for each in looks])[0])
    typical = float(np.median(values))
    allowed = max(share * typical, absolute)
    return Verdict(
        name, typical, slope, unit, f"at most {allowed:.3g} {unit} a day".replace("  ", " "), slope <= allowed
    )


def _per_event(looks: list[Look]) -> Verdict:
    """The store keeps everything: its bytes an event must not rise from the day's first quarter to its last."""
    tail = looks[-max(1, len(looks) // 4) :]
    early = [each.store_bytes / each.events for each in looks[: max(1, len(looks) // 4)]]
    late = (tail[-1].store_bytes - tail[0].store_bytes) / max(1, tail[-1].events - tail[0].events)
    return Verdict(
        "store bytes an event", float(np.median(early)), late - float(np.median(early)), "B",
        "no more late than early", late <= 1.1 * max(early),
    )  # fmt: skip


def _bounded(looks: list[Look]) -> Verdict:
    largest = max(each.log_bytes for each in looks) / MIB
    bound = Limits().max_bytes / MIB
    return Verdict(
        "log at work", largest, 0.0, "MiB", f"never over {bound:.0f} MiB, then rotated", largest <= bound * 1.01
    )


def render(looks: list[Look], verdicts: list[Verdict], wall_s: float) -> str:
    last = looks[-1]
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


def draw(looks: list[Look], out: Path) -> None:
    """OUT.png and OUT.svg."""
    hours = [each.hour for each in looks]
    panels: list[tuple[str, list[tuple[str, list[float]]]]] = [
        ("memory, MiB", [("daemon, resident", [each.rss_bytes / MIB for each in looks])]),
        ("number", [("open descriptors", [each.descriptors for each in looks]),
                    ("threads", [each.threads for each in looks])]),
        ("answer to status, ms", [("median of 20", [each.status_p50_s * 1e3 for each in looks]),
                          ("slowest of 20", [each.status_p99_s * 1e3 for each in looks])]),
        ("told until kept, ms", [("median", [each.commit_p50_s * 1e3 for each in looks]),
                                 ("99 of 100", [each.commit_p99_s * 1e3 for each in looks])]),
        ("files, MiB", [("store", [each.store_bytes / MIB for each in looks]),
                        ("its write-ahead log", [each.wal_bytes / MIB for each in looks]),
                        ("event log at work", [each.log_bytes / MIB for each in looks]),
                        ("event log, all parts", [each.log_parts_bytes / MIB for each in looks])]),
        ("events, thousands", [("in the store", [each.events / 1e3 for each in looks])]),
    ]  # fmt: skip
    figure, grid = plt.subplots(3, 2, figsize=(11, 8.5), sharex=True, layout="constrained")
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
    plt.close(figure)


def broken_promises(home: Home) -> list[str]:
    """What the checker has to say of the day's run; empty when it is content."""
    with read_only(home.store) as connection:
        evidence = audit_evidence.gather(home, connection, "soak")
    verdicts = invariants.check(evidence)
    return [fault for verdict in verdicts for fault in verdict.faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=None, help="where the picture goes, without suffix; left out: none")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="soak-", dir=memory if memory.is_dir() else None) as folder:
        begun = time.monotonic()
        home, table = Path(folder), Path(tempfile.mkdtemp(prefix="soak-")) / "soak.csv"
        looks = live(tale_of(home, table, arguments.hours, arguments.events))
        verdicts = judge(looks)
        print(render(looks, verdicts, time.monotonic() - begun))
        broken = broken_promises(Home(home))
        print(*(broken or ["the checker is content with the run"]), sep="\n")
    print(f"table: {table}")
    if arguments.out is not None:
        draw(looks, arguments.out)
        print(f"picture: {arguments.out.with_suffix('.png')}")
    return 0 if not broken and all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
