"""Check this machine's accelerator in two minutes: `python -m training.devices.check FOLDER`.

It prints a JSON line a check. FOLDER is for the data of the embedded sample and a checkpoint. Without an accelerator
it says so.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from training.build import build_learner, multiplies_in_bf16
from training.data.windows import MarketWindows, load_windows
from training.devices.accelerator import Accelerator, accelerator_of
from training.devices.choice import available_devices, release_cached_memory
from training.devices.parity import compare, measure_by
from training.devices.timing import seconds_per_step
from training.grid import Architecture
from training.loop import Learner, train_batch
from training.memory import Precision, predict_trial_memory
from training.session import TrainingSession
from training.settings import TrialSettings

TIME_S = 100.0
"""Checks that have not begun by then are left out; the longest takes some ten seconds."""
QUEUED = 16
SHAPES: dict[str, tuple[int, int]] = {"2M": (192, 6), "20M": (512, 6), "200M": (1024, 16)}
"""d_model and n_layers by budget."""
_MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One line of the table; `ok` is None where the figure is for information."""

    check: str
    result: str
    ok: bool | None = None


def config(dataset: Path, device: str, d_model: int, n_layers: int, precision: Precision = "fp32") -> dict[str, Any]:
    """Return the config of a trial of this shape on the embedded sample."""
    return {
        "budget": "2M", "horizon": 1, "shape_rank": 0, "heads_log2": 2, "learning_rate": 2e-4, "seed": 1,
        "grid": {"d_model": [d_model], "n_layers": [n_layers], "n_heads": [4], "d_ff_ratio": [4], "tolerance": 1.0},
        "dataset": str(dataset), "batch_size": 64, "max_epochs": 3, "precision": precision, "device": device,
        "threads": max(1, (os.cpu_count() or 1) // 2),
    }  # fmt: skip


def run(device: str, accelerator: Accelerator, dataset: Path, left_s: Callable[[], float]) -> Iterator[Row]:
    """Yield the checks of a device, each as soon as it is done. An error of one is its result."""
    settings = TrialSettings.from_config(config(dataset, device, *SHAPES["2M"]))
    windows = load_windows(settings)
    checks: list[tuple[str, Callable[[], list[Row]]]] = [
        ("parity with the CPU", partial(_parity, device, settings, windows)),
        ("random generator", partial(_generator, accelerator)),
        ("queue", partial(_queue, settings, windows, device)),
        ("resume", partial(_resume, dataset, device)),
        *((f"a step of {budget}", partial(_step, dataset, device, accelerator, budget)) for budget in SHAPES),
    ]
    for name, work in checks:
        if left_s() <= 0:
            yield Row(name, "left out: the time is over")
            continue
        try:
            yield from work()
        except Exception as error:  # noqa: BLE001 - drivers raise any class; the other checks still say something
            yield Row(name, f"{type(error).__name__}: {error}"[:300], ok=False)


def _shape(settings: TrialSettings, windows: MarketWindows) -> Architecture:
    grid = settings.grid
    return Architecture(grid.d_model[0], grid.n_layers[0], 4 * grid.d_model[0], 4, windows.manifest.num_features,
                        settings.context, settings.patch, settings.stride)  # fmt: skip


def _learner(settings: TrialSettings, windows: MarketWindows, device: str) -> Learner:
    shape = _shape(settings, windows)
    return build_learner(settings, shape, device, predict_trial_memory(shape, settings.batch_size))


def _parity(device: str, settings: TrialSettings, windows: MarketWindows) -> list[Row]:
    measure = measure_by(settings, _shape(settings, windows), windows)
    both: tuple[Precision, ...] = ("fp32", "bf16")
    found = [one for precision in both for one in compare(device, [precision], measure)]
    rows = []
    for one in found:
        result = f"{one.sentence()}; {'agrees' if one.agrees else 'differs'}"
        # bf16 is a gain where it is right; training needs float32 only.
        rows.append(Row("parity with the CPU", result, one.agrees if one.precision == "fp32" else None))
    return rows


def _generator(accelerator: Accelerator) -> list[Row]:
    kept = accelerator.rng_state()
    accelerator.set_rng_state(accelerator.first_rng_state(7))
    first = accelerator.rng_state()
    accelerator.set_rng_state(kept)
    again = torch.equal(accelerator.rng_state(), kept)
    ok = again and not torch.equal(first, kept)
    return [Row("random generator", "saved and restored" if ok else "its state is not the one that was set", ok)]


def _queue(settings: TrialSettings, windows: MarketWindows, device: str) -> list[Row]:
    learner = _learner(settings, windows, device)
    local = windows.to(learner.device)
    learner.model.train()
    samples = local.train[: settings.batch_size]
    with learner.own_randomness_discarded():
        float(train_batch(learner, local, samples))
        started = time.monotonic()
        losses = [train_batch(learner, local, samples) for _ in range(QUEUED)]
        queued_s = time.monotonic() - started
        finite = all(math.isfinite(value) for value in torch.stack(losses).tolist())
    done_s = time.monotonic() - started
    result = f"{QUEUED} batches of 2M queued in {queued_s:.3f} s, done in {done_s:.3f} s"
    return [Row("queue", result if finite else f"{result}, a loss is not finite", finite)]


def _resume(dataset: Path, device: str) -> list[Row]:
    given = config(dataset, device, 64, 2) | {"budget": "100k", "dropout": 0.2}
    straight = TrainingSession(given, gate=lambda: 0.0)
    straight.step()
    path = dataset.parent / "check.pt"
    straight.save(path)
    resumed = TrainingSession(given, gate=lambda: 0.0)
    resumed.load(path)
    one, other = straight.step(), resumed.step()
    used = straight.choice.device
    path.unlink()
    ok = used == device and math.isclose(one.train_loss, other.train_loss, rel_tol=1e-3)
    return [Row("resume", f"on {used}: loss {one.train_loss:.6g}, resumed {other.train_loss:.6g}", ok)]


def _step(dataset: Path, device: str, accelerator: Accelerator, budget: str) -> list[Row]:
    settings = TrialSettings.from_config(config(dataset, device, *SHAPES[budget]))
    windows = load_windows(settings)
    shape = _shape(settings, windows)
    torch.set_num_threads(settings.threads)
    before = accelerator.held_bytes()
    learner = build_learner(settings, shape, device, predict_trial_memory(shape, settings.batch_size))
    seconds = seconds_per_step(learner, windows, time.monotonic)
    held = accelerator.held_bytes() - before
    del learner
    release_cached_memory(device)
    cpu = seconds_per_step(_learner(settings, windows, "cpu"), windows, time.monotonic)
    predicted = predict_trial_memory(shape, settings.batch_size)
    own = predicted.total_bytes - predicted.runtime_bytes
    return [
        Row(f"a step of {budget}", f"{device} {seconds:.3g} s, CPU ({settings.threads} threads) {cpu:.3g} s"),
        Row(f"memory of {budget}", f"held {held / _MIB:.0f} MiB, predicted {own / _MIB:.0f} MiB without the runtime"),
    ]


def _machine() -> Iterator[Row]:
    names = ("CUDA_", "PYTORCH_")
    yield Row("machine", f"{platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}")
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(names)]
    yield Row("variables", " ".join(variables) or "none of CUDA or PyTorch")


def _device(device: str, accelerator: Accelerator) -> Row:
    memory = "the machine's own memory" if accelerator.shares_memory else "memory of its own"
    bf16 = "bf16" if multiplies_in_bf16(device) else "no bf16"
    return Row("accelerator", f"{device}, {memory}, {accelerator.free_bytes() / 2**30:.1f} GiB free, {bf16}", ok=True)


def _sample(folder: Path) -> Path:
    from training.data.dataset_files import build_dataset
    from training.data.imports import import_sample
    from training.data.manifest import dataset_path

    import_sample(folder)
    build_dataset("SP500", "a25", folder)
    return dataset_path(folder, "SP500", "a25")


def main(folder: Path, tell: Callable[[str], object] = lambda line: print(line, flush=True)) -> int:
    """Check the first accelerator of this machine, a JSON line a check."""
    until = time.monotonic() + TIME_S
    for row in _machine():
        tell(json.dumps(asdict(row)))
    found = [(name, found) for name in available_devices() if (found := accelerator_of(name)) is not None]
    if not found:
        tell(json.dumps(asdict(Row("accelerator", "none: torch finds neither CUDA nor Metal here"))))
        return 0
    device, accelerator = found[0]
    tell(json.dumps(asdict(_device(device, accelerator))))
    for row in run(device, accelerator, _sample(folder), lambda: until - time.monotonic()):
        tell(json.dumps(asdict(row)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
