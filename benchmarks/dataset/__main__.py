"""Measure the memory of a dataset in 1, 2 and 4 processes that load it as trials do.

    python -m benchmarks.dataset [--rounds 3]

The dataset is the embedded S&P 500 sample, by the loader of `patchtst`. Each process trains no model: it loads, reads
every value, and waits until all have done so; then it reads its own pages in /proc (Linux only). `private` are the
bytes of the dataset that are this process's own, `share` is its proportional part of those that it shares (PSS). The
same with arrays of one's own, as where the file cannot be written, is beside it (there all bytes of the arrays are
private); so is the time to load. `shared`: all processes find no file and make it at once; `shared again`: it is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine

PROCESSES = (1, 2, 4)
TICKER = "SP500"
ROOT = Path(__file__).resolve().parents[2]
KIB = 1024.0


def pages_of(folder: str) -> dict[str, int]:
    """Return the bytes of this process's mappings of files below `folder`: Pss, Private_Dirty, and the rest."""
    found: dict[str, int] = {}
    for part in Path("/proc/self/smaps").read_text().split("VmFlags:"):
        if folder not in part:
            continue
        for line in part.splitlines():
            words = line.split()
            if len(words) == 3 and words[2] == "kB":
                found[words[0].rstrip(":")] = found.get(words[0].rstrip(":"), 0) + 1024 * int(words[1])
    return found


def serve(dataset: str) -> None:
    """Load the dataset at each line of standard input, say what it took, and measure at the next line."""
    from training.data import shared_arrays
    from training.data.windows import load_windows, windows_folder
    from training.settings import TrialSettings

    def refuse(path: Path) -> Any:
        raise OSError(f"{path}: the benchmark lets it not be written")

    folder = windows_folder(Path(dataset))
    print("ready", flush=True)
    for way in map(str.strip, sys.stdin):
        usual = shared_arrays.replace_file
        if way == "own":
            shared_arrays.replace_file = refuse
            shared_arrays.LOG.disabled = True
        began = time.perf_counter()
        windows = load_windows(TrialSettings.from_config(config(dataset)))
        seconds = time.perf_counter() - began
        shared_arrays.replace_file, shared_arrays.LOG.disabled = usual, False
        tensors = [windows.days, windows.labels, windows.train, windows.val]
        total = sum(float(tensor.nan_to_num().sum()) for tensor in tensors)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        print(json.dumps({"seconds": seconds, "total": total, "size": size, "mapped": windows.mapped}), flush=True)
        sys.stdin.readline()
        pages = pages_of(str(folder))
        own = pages.get("Private_Dirty", 0) if windows.mapped else size
        print(json.dumps({"private": own, "share": pages.get("Pss", 0) if windows.mapped else size}), flush=True)
        del windows, tensors


def config(dataset: str) -> dict[str, Any]:
    """Return the config of a trial of phase6a's kind on this dataset."""
    return {
        "budget": "200k", "horizon": 3, "grid": {"d_model": [32, 64], "n_layers": [2, 4], "n_heads": [2, 4]},
        "shape_rank": 0, "heads_log2": 1, "learning_rate": 1e-3, "dataset": dataset, "seed": 1, "context": 80,
    }  # fmt: skip


class Loader:
    """A process that loads the dataset."""

    def __init__(self, dataset: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.dataset", "--serve", dataset], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.hear()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a loader ended with {self._process.wait()} instead of an answer: see its error above")
        return line

    def end(self) -> None:
        self._process.communicate(timeout=60)


def measured(loaders: list[Loader], way: str) -> list[dict[str, Any]]:
    """Let all load, then let all measure; return what each has found."""
    for loader in loaders:
        loader.say(way)
    loaded = [json.loads(loader.hear()) for loader in loaders]
    for loader in loaders:
        loader.say("measure")
    return [{**one, **json.loads(loader.hear())} for one, loader in zip(loaded, loaders, strict=True)]


def table_of(dataset: Path, rounds: int) -> list[str]:
    import shutil

    from training.data.windows import windows_folder

    heading = "| processes | dataset | way | private each | share each | all together | load |"
    lines = [heading, "|---|---|---|---|---|---|---|"]
    for count in PROCESSES:
        loaders = [Loader(str(dataset)) for _ in range(count)]
        for way in ("own", "shared", "shared again"):
            found = []
            for _ in range(rounds):
                if way != "shared again":
                    shutil.rmtree(windows_folder(dataset), ignore_errors=True)
                found += measured(loaders, way)
            assert len({one["total"] for one in found}) == 1, "all ways must load the same values"
            assert all(one["mapped"] == (way != "own") for one in found)
            private, share = (statistics.mean(one[key] for one in found) / KIB for key in ("private", "share"))
            load_ms = 1000 * statistics.median(one["seconds"] for one in found)
            lines.append(
                f"| {count} | {found[0]['size'] / KIB:.0f} KiB | {way} | {private:.0f} KiB | {share:.0f} KiB "
                f"| {count * share:.0f} KiB | {load_ms:.1f} ms |"
            )
        for loader in loaders:
            loader.end()
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="loads of each kind in each process")
    parser.add_argument("--serve", metavar="DATASET", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return 0
    if not Path("/proc/self/smaps").exists():
        print("expected /proc/self/smaps, found none: only Linux tells whose pages are whose", file=sys.stderr)
        return 1
    from training.data.dataset_files import build_dataset
    from training.data.imports import import_sample
    from training.data.manifest import dataset_path

    with TemporaryDirectory() as folder:
        import_sample(Path(folder))
        build_dataset(TICKER, "a25", Path(folder))
        print(machine())
        print("\n".join(table_of(dataset_path(Path(folder), TICKER, "a25"), arguments.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
