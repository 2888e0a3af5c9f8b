"""The windows of a trial are pages of a file that trials share: the same bits, and nothing lost with the file."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.unit.training.small_learner import made, run, weights
from tests.unit.training.small_trial import config
from training.data import shared_arrays as shared
from training.data.manifest import manifest_path
from training.data.windows import MarketWindows, load_windows, windows_folder
from training.settings import TrialSettings

TENSORS = ("days", "labels", "train", "val")
KINDS = [{}, {"normalisation": "zscore"}, {"horizon": 5}, {"context": 20}]


@pytest.fixture
def own(dataset: Path, tmp_path: Path) -> Path:
    """Copy the dataset to a place without a file of windows."""
    return copied(dataset, tmp_path)


def copied(dataset: Path, folder: Path) -> Path:
    place = folder / "data" / "processed"
    place.mkdir(parents=True)
    for path in (dataset, manifest_path(dataset)):
        shutil.copy(path, place)
    return place / dataset.name


def load(dataset: Path, **changes: Any) -> MarketWindows:
    return load_windows(TrialSettings.from_config(config(dataset, **changes)))


def files(dataset: Path) -> list[Path]:
    return sorted(windows_folder(dataset).iterdir())


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shared, "replace_file", fail)
        yield


def same(one: MarketWindows, other: MarketWindows) -> bool:
    """Return whether all is the same to the bit, the order in memory too."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in TENSORS]
    as_bytes = [tuple(tensor.numpy().tobytes("A") for tensor in pair) for pair in pairs]
    blank: dict[str, Any] = {**dict.fromkeys(TENSORS), "mapped": False}
    facts = [replace(windows, **blank) for windows in (one, other)]
    layout = all(a.stride() == b.stride() and a.dtype == b.dtype for a, b in pairs)
    return layout and all(a == b for a, b in as_bytes) and facts[0] == facts[1]


@pytest.mark.parametrize("changes", KINDS)
def test_the_first_trial_writes_the_file_and_later_ones_map_the_same_bits(
    stationary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    own = copied(stationary, tmp_path)
    with full_disk(monkeypatch):
        unshared = load(own, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = load(own, **changes), load(own, **changes)
    assert (unshared.mapped, first.mapped, second.mapped) == (False, True, True)
    assert same(unshared, first)
    assert same(first, second)
    assert len(files(own)) == 1


def test_training_on_mapped_windows_has_the_same_bits(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk(monkeypatch):
        learner, unshared = made(own)
    expected = run(learner, unshared)
    other, mapped = made(own)
    assert (unshared.mapped, mapped.mapped) == (False, True)
    assert [(epoch.train_loss, epoch.val_loss) for epoch in run(other, mapped)] == [
        (epoch.train_loss, epoch.val_loss) for epoch in expected
    ]
    assert torch.equal(weights(other), weights(learner))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells whose pages are whose")
def test_training_makes_no_page_of_the_file_its_own(own: Path) -> None:
    learner, windows = made(own, max_epochs=1)
    run(learner, windows)
    name = str(files(own)[0])
    dirty = []
    for part in Path("/proc/self/smaps").read_text().split("VmFlags:"):
        if name in part:
            dirty += [line.split()[1] for line in part.splitlines() if line.startswith("Private_Dirty:")]
    assert dirty == ["0"]


def test_a_write_to_mapped_windows_does_not_reach_the_file(own: Path) -> None:
    first = load(own)
    before = files(own)[0].read_bytes()
    first.days.fill_(7.0)
    assert files(own)[0].read_bytes() == before
    assert not torch.equal(load(own).days, first.days)


def test_the_files_may_be_deleted_at_any_time(own: Path) -> None:
    learner, windows = made(own)
    kept = windows.days.clone()
    shutil.rmtree(windows_folder(own))
    assert run(learner, windows)[-1].finished
    torch.testing.assert_close(windows.days, kept, rtol=0, atol=0, equal_nan=True)
    assert load(own).mapped


@pytest.mark.parametrize("damage", ["cut", "grown", "empty", "beginning", "header", "length", "last byte", "other"])
def test_a_damaged_file_is_found_and_made_again(own: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    expected = load(own)
    [path] = files(own)
    content = path.read_bytes()
    flipped = {"beginning": 0, "length": len(shared.MAGIC) + 7, "header": len(shared.MAGIC) + 60, "last byte": -1}
    broken = bytearray(content)
    if damage in flipped:
        broken[flipped[damage]] ^= 1
    elif damage == "other":
        load(own, horizon=1)
        [other] = set(files(own)) - {path}
        broken = bytearray(other.read_bytes())
    else:
        broken = bytearray({"cut": content[:-9], "grown": content + b"\0", "empty": b""}[damage])
    # Another file of that name: `expected` still has the pages of the first.
    path.unlink()
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING, "data"):
        again = load(own)
    assert f"{path} cannot be used and is made again" in caplog.text
    assert again.mapped
    assert same(again, expected)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_each_process_a_copy_and_says_so(
    own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with full_disk(monkeypatch), caplog.at_level(logging.WARNING, "data"):
        windows = load(own)
    assert not windows.mapped
    assert "cannot be written; this process keeps a copy of the dataset of its own" in caplog.text
    assert "No space left" in caplog.text
    assert files(own) == []


def test_what_decides_the_windows_decides_the_file_and_the_oldest_go(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changes in ({}, {"horizon": 1}, {"target": {"price": "close"}}, {"learning_rate": 0.5, "seed": 9}):
        load(own, **changes)
    assert len(files(own)) == 3
    [oldest, *others] = sorted(files(own), key=lambda path: path.stat().st_mtime_ns)
    os.utime(oldest, (0, 0))
    monkeypatch.setattr(shared, "MAX_FILES", 3)
    load(own, context=20)
    assert oldest not in files(own)
    assert set(others) < set(files(own))


def test_processes_that_make_the_file_at_once_leave_one_good_file(own: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.unit.training.test_shared_arrays import load\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(load(Path(sys.argv[1])).mapped)\n"
    )
    command = [sys.executable, "-c", code, str(own)]
    root = Path(__file__).parents[3]
    started = [
        subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n", timeout=120)[0] for process in started if process.stdin is not None]
    assert said == ["True\n", "True\n"]
    assert [path.suffix for path in files(own)] == [".arrays"]
    assert load(own).mapped


@given(
    arrays_of.arrays(
        st.sampled_from([np.float32, np.int64, np.bool_]),
        arrays_of.array_shapes(min_dims=1, max_dims=3, max_side=5),
    ),
    st.sampled_from(["C", "F"]),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
)
def test_arrays_of_any_shape_and_order_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], order: Any, facts: dict[str, float]
) -> None:
    wanted = shared.Arrays({"one": np.array(array, order=order), "two": array.ravel()}, facts)
    folder = tmp_path_factory.mktemp("arrays")
    for _ in range(2):
        found = shared.shared_arrays(folder, {"key": 1}, lambda: wanted)
        assert found.mapped
        assert dict(found.facts) == facts
        for name, expected in wanted.arrays.items():
            assert found.arrays[name].tobytes() == expected.tobytes()
            if expected.flags.c_contiguous != expected.flags.f_contiguous:
                assert found.arrays[name].strides == expected.strides
