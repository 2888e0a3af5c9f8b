"""Measure what grows with the trials of one experiment: 100, 1,000, and 10,000 or 100,000 on request.

    python -m benchmarks.growth [--trials 100,1000] [--alone 1000,10000] [--sampler tpe] [--out FILE.md]

The first table is of whole runs by the real commands, one for each number of `--trials`: a class trainable that ends
at once, one trial at a time, in one worker. Of each pair of figures the first is of the run's first tenth, the second
of its last. `status` is asked meanwhile, once in two seconds. The second table is of `--alone`, without Ray: the real
store and log take the messages of so many trials, a status, an audit and a rebuild read them, and a process rebuilds
what a driver rebuilds. Its home is in memory where the system has such a folder, so that the disk is not measured. 0
leaves a table out. A run with Ray is given up after five minutes and two seconds for each trial.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.growth import alone, figures, real
from benchmarks.machine import machine

VERSIONS = ("ray", "optuna")
SAMPLERS = ("tpe", "random")


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as 100,1000; none for 0. Raises ValueError for another text."""
    found = [int(word) for word in text.split(",")]
    return [number for number in found if number > 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=numbers, default=[100, 1_000], metavar="N,N", help="of the runs with Ray")
    parser.add_argument("--alone", type=numbers, default=[1_000, 10_000], metavar="N,N", help="without Ray")
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="of the runs with Ray")
    parser.add_argument("--out", type=Path, help="also write the tables into this file")
    asked = parser.parse_args()
    # An end from outside, too, ends what a run has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    lines = [f"{machine()}; {libraries}; load {psutil.getloadavg()[0]:.1f} before; sampler {asked.sampler}", ""]
    print(lines[0], flush=True)
    if asked.trials:
        lines += [figures.markdown(figures.COLUMNS, [_real(number, asked.sampler) for number in asked.trials]), ""]
    if asked.alone:
        lines.append(figures.markdown(alone.COLUMNS, [_alone(number) for number in asked.alone]))
    print("\n".join(lines[1:]))
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n")
    return 0


def _real(trials: int, sampler: str) -> tuple[str, ...]:
    found = figures.row(real.run(trials, sampler))
    print(f"a run of {trials:,} trials: done", file=sys.stderr, flush=True)
    return found


def _alone(trials: int) -> tuple[str, ...]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="growth-", dir=memory if memory.is_dir() else None) as folder:
        found = alone.row(Path(folder), trials)
    print(f"{trials:,} trials without Ray: done", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
