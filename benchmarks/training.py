"""Measure the speed and memory of training, beside a plain PyTorch loop and the machine's GEMM peak.

    python -m benchmarks.training               # everything, about ten minutes on two quiet cores
    python -m benchmarks.training throughput --seconds 3
    python -m benchmarks.training memory | contention | step200m

Each figure comes from a fresh process with the environment of a trial's process. Samples are windows. A GEMM peak is
the best of square products of 2048 in the same process, thread count and number format as the figure beside it; FLOPs
are 6 per parameter and token, and attention's. Run it on a quiet machine: it prints the load.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_reference import reference_step
from supervisor.processes.environment import thread_environment
from training.build import build_learner, flops_per_step, multiplies_in_bf16
from training.data.dataset_files import build_dataset
from training.data.imports import import_sample
from training.data.manifest import dataset_path
from training.data.windows import MarketWindows, load_windows
from training.grid import Architecture, param_count
from training.loop import train_batch
from training.memory import MemoryEstimate, predict_trial_memory
from training.settings import TrialSettings

ROOT = Path(__file__).parents[1]
FEATURES, BATCH = 25, 64
PEAK_SECONDS = 1.0
# name: d_model, n_layers, context. The reference loop runs at the first size only.
SIZES = {
    "reference size": (128, 8, 60),
    "2M": (128, 10, 80),
    "20M": (512, 6, 80),
    "200M": (1024, 16, 80),
}


def architecture(d_model: int, n_layers: int, context: int, heads: int = 4) -> Architecture:
    return Architecture(d_model, n_layers, 4 * d_model, heads, FEATURES, context, 10, 5)


def settings_for(shape: Architecture, dataset: str, precision: str) -> TrialSettings:
    grid = {"d_model": [shape.d_model], "n_layers": [shape.n_layers], "n_heads": [shape.n_heads], "d_ff_ratio": [4]}
    return TrialSettings.from_config(
        {
            "budget": "2M",
            "horizon": 1,
            "grid": grid,
            "shape_rank": 0,
            "heads_log2": 2,
            "learning_rate": 1e-4,
            "dataset": dataset,
            "seed": 1,
            "context": shape.context,
            "batch_size": BATCH,
            "precision": precision,
            "device": "cpu",
        }
    )


def seconds_per_call(call: Callable[[], object], seconds: float, warm_up: int = 2) -> float:
    """Return the median of at least three calls and ``seconds``."""
    for _ in range(warm_up):
        call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def gemm_peak_flops(dtype: torch.dtype, seconds: float) -> float:
    size = 2048
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def our_step(
    shape: Architecture, dataset: str, precision: str, micro: int | None = None
) -> tuple[Callable[[], object], MemoryEstimate]:
    settings = settings_for(shape, dataset, precision)
    windows = load_windows(settings)
    memory = predict_trial_memory(shape, BATCH, precision=precision, micro_batch=micro)  # type: ignore[arg-type]
    learner = build_learner(settings, shape, "cpu", memory)
    learner.model.train()
    batches = _batches(windows)
    return lambda: float(train_batch(learner, windows, next(batches))), memory


def _batches(windows: MarketWindows) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield windows.train[torch.randint(len(windows.train), (BATCH,), generator=generator)]


def measure(task: dict[str, Any]) -> dict[str, float]:
    """Measure one task in this process."""
    torch.set_num_threads(task["threads"])
    shape = architecture(*task["shape"])
    if task["what"] == "reference":
        call: Callable[[], object] = reference_step(shape, settings_for(shape, task["dataset"], "fp32"))
    else:
        call, memory = our_step(shape, task["dataset"], task["precision"], task.get("micro"))
    step_s = seconds_per_call(call, task["seconds"], task.get("warm_up", 2))
    dtype = torch.bfloat16 if task.get("precision") == "bf16" else torch.float32
    result = {
        "samples_per_s": BATCH / step_s,
        "flops": flops_per_step(shape, BATCH) / step_s,
        "step_s": step_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    if task["what"] == "ours":
        result["predicted_bytes"] = memory.total_bytes
    result["gemm_flops"] = gemm_peak_flops(dtype, PEAK_SECONDS)
    return result


def start(task: dict[str, Any], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    settled = thread_environment(task["threads"]) if environment is None else environment
    command = [sys.executable, "-m", "benchmarks.training", "--task", json.dumps(task)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settled}, cwd=ROOT)


def in_processes(tasks: list[dict[str, Any]], environment: dict[str, str] | None = None) -> list[dict[str, float]]:
    """Run tasks at the same time, each in its own process; return their results."""
    running = [start(task, environment) for task in tasks]
    answers = [process.communicate(timeout=1800)[0] for process in running]
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def throughput(dataset: str, seconds: float) -> None:
    print(
        f"\n{'size':<16}{'loop':<18}{'processes':<12}{'samples/s':>10}{'GFLOP/s':>9}{'of peak':>9}{'of reference':>14}"
    )
    baseline = 0.0
    formats = ["fp32", "bf16"] if multiplies_in_bf16("cpu") else ["fp32"]
    for name in ("reference size", "2M", "20M"):
        loops = [("reference", "fp32")] if name == "reference size" else []
        for what, precision in [*loops, *(("ours", precision) for precision in formats)]:
            for processes, threads in ((1, 2), (2, 1)):
                task = {"what": what, "shape": SIZES[name], "threads": threads, "precision": precision}
                task |= {"dataset": dataset, "seconds": seconds}
                results = in_processes([task] * processes)
                samples = sum(result["samples_per_s"] for result in results)
                share = statistics.mean(result["flops"] / result["gemm_flops"] for result in results)
                if what == "reference":
                    baseline = max(baseline, samples)
                ratio = f"{samples / baseline:>13.2f}x" if name == "reference size" else ""
                flops = sum(result["flops"] for result in results) / 1e9
                label = f"{what} {precision}"
                print(
                    f"{name:<16}{label:<18}{processes} x {threads:<8}{samples:>10.0f}{flops:>9.0f}{share:>9.0%}{ratio}"
                )
    print("'of reference': compared with the better of its two rows; 'of peak': with the same number format.")


def memory(dataset: str, seconds: float) -> None:
    print(f"\n{'size':<16}{'precision':<11}{'micro':>6}{'measured':>12}{'predicted':>12}{'ratio':>7}{'step':>9}")
    for name, precision, micro in (
        ("2M", "fp32", 64),
        ("2M", "bf16", 64),
        ("20M", "fp32", 64),
        ("20M", "fp32", 16),
        ("20M", "bf16", 64),
        ("200M", "fp32", 64),
        ("200M", "bf16", 64),
    ):
        task = {"what": "ours", "shape": SIZES[name], "threads": 2, "precision": precision, "micro": micro}
        task |= {"dataset": dataset, "seconds": 0.0, "warm_up": 1}
        (result,) = in_processes([task])
        measured, predicted = result["peak_bytes"] / 2**20, result["predicted_bytes"] / 2**20
        print(
            f"{name:<16}{precision:<11}{micro:>6}{measured:>8.0f} MiB{predicted:>8.0f} MiB"
            f"{predicted / measured:>7.2f}{result['step_s']:>7.2f} s"
        )
    del seconds


def step200m(dataset: str, seconds: float) -> None:
    """Measure optimiser steps of a 200M architecture on the CPU."""
    shape = architecture(*SIZES["200M"])
    print(f"\n200M: {param_count(shape):,} parameters, d_model {shape.d_model}, {shape.n_layers} layers, batch {BATCH}")
    precision = "bf16" if multiplies_in_bf16("cpu") else "fp32"
    task = {"what": "ours", "shape": SIZES["200M"], "threads": 2, "precision": precision}
    (result,) = in_processes([task | {"dataset": dataset, "seconds": 0.0, "warm_up": 1}])
    print(
        f"one step {result['step_s']:.2f} s ({result['flops'] / result['gemm_flops']:.0%} of the {precision} peak), "
        f"peak {result['peak_bytes'] / 2**30:.2f} GiB, predicted {result['predicted_bytes'] / 2**30:.2f} GiB"
    )
    del seconds


def contention(dataset: str, seconds: float) -> None:
    """Measure a 2-thread trial while another process takes one core, under each OpenMP policy."""
    print(f"\n{'OpenMP waiting':<24}{'alone':>10}{'one core taken':>16}   samples/s, 2M, 2 threads")
    task = {"what": "ours", "shape": SIZES["2M"], "threads": 2, "dataset": dataset, "seconds": seconds}
    task |= {"precision": "bf16" if multiplies_in_bf16("cpu") else "fp32"}
    plain = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    policies = {
        "default (spins)": plain,
        "PASSIVE": {**plain, "OMP_WAIT_POLICY": "PASSIVE"},
        "spin 1,000": {**plain, "GOMP_SPINCOUNT": "1000"},
        "spin 10,000": {**plain, "GOMP_SPINCOUNT": "10000"},
        "ours": thread_environment(2),
    }
    for name, environment in policies.items():
        (alone,) = in_processes([task], environment)
        hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            (shared,) = in_processes([task], environment)
        finally:
            hog.kill()
            hog.wait()
        print(f"{name:<24}{alone['samples_per_s']:>10.0f}{shared['samples_per_s']:>16.0f}")


TABLES = {"throughput": throughput, "memory": memory, "contention": contention, "step200m": step200m}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="*", choices=[*TABLES, []], help="which tables (default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each figure is timed")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measure(json.loads(args.task))))
        return
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, load {load:.2f}, torch {torch.__version__}, native bf16: {multiplies_in_bf16('cpu')}"
    )
    if load > 0.5:
        print("This machine is busy: the figures below are lower than on a quiet one.")
    with tempfile.TemporaryDirectory() as folder:
        import_sample(Path(folder))
        build_dataset("SP500", "a25", Path(folder))
        for table in args.table or TABLES:
            TABLES[table](str(dataset_path(Path(folder), "SP500")), args.seconds)


if __name__ == "__main__":
    main()
