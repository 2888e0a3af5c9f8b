"""Plays twelve simulated hours under the ladder, under switches and unchecked: a table and a picture.

    python -m benchmarks.heat [--hours 12] [--out heat.png]

The machine is simulated (benchmarks/heat_simulation.py); the governor and its policy are the real ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

from benchmarks.heat_simulation import ON_OFF, Controller, Ladder, Machine, Story, Unchecked, simulate
from supervisor.governor.policy import Policy

mpl.use("Agg")
import matplotlib.pyplot as plt

DRAWN = ("ladder", "on/off 95/75, 15 s dwell, 300 s off", "unchecked")


def stories(machine: Machine, hours: float) -> dict[str, Story]:
    controllers: dict[str, Controller] = {"unchecked": Unchecked()}
    controllers |= {name: switch() for name, switch in ON_OFF.items()}
    controllers["ladder"] = Ladder(Policy())
    return {name: simulate(controller, machine, hours) for name, controller in controllers.items()}


def table(results: dict[str, Story]) -> str:
    rows = [f"{'':<38} full stops  trials stopped  throughput  above soft   slowed   hottest"]
    rows += [
        f"{name:<38}{s.stops:>11}{s.trials_stopped:>16}{s.throughput:>12.3f}{s.share_above_soft:>12.1%}"
        f"{s.share_above_slowing:>9.1%}{s.hottest_celsius:>8.1f} C"
        for name, s in results.items()
    ]
    return "\n".join(rows)


def draw(results: dict[str, Story], machine: Machine, out: Path) -> None:
    figure, rows = plt.subplots(len(DRAWN), 1, figsize=(11, 8.5), sharex=True, layout="constrained")
    for axes, name in zip(rows, DRAWN, strict=True):
        story = results[name]
        hours = [minute / 60 for minute in range(len(story.celsius))]
        axes.plot(hours, story.celsius, color="firebrick", linewidth=0.9)
        for limit, style in ((machine.limits.soft, ":"), (machine.limits.pause, "--")):
            axes.axhline(limit, color="firebrick", linestyle=style, linewidth=0.8)
        axes.set_ylim(20, 112)
        axes.set_ylabel("die, °C", color="firebrick")
        load = axes.twinx()
        load.fill_between(hours, story.trials, step="post", color="steelblue", alpha=0.35, linewidth=0)
        load.set_ylim(0, 3 * machine.trials)
        load.set_yticks(range(machine.trials + 1))
        load.set_ylabel("trials at work", color="steelblue", loc="bottom")
        axes.set_title(
            f"{name}: {story.stops} full stops, throughput {story.throughput:.2f}, "
            f"{story.share_above_slowing:.0%} of the time slowed by the firmware",
            loc="left",
            fontsize=10,
        )
    rows[-1].set_xlabel("hours (soft limit dotted, pause limit dashed; one point a minute)")
    rows[-1].set_xlim(0, len(results[DRAWN[0]].celsius) / 60)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--out", type=Path, default=Path("heat.png"))
    arguments = parser.parse_args()
    machine = Machine()
    results = stories(machine, arguments.hours)
    print(table(results))
    draw(results, machine, arguments.out)
    print(f"picture: {arguments.out}")


if __name__ == "__main__":
    main()
