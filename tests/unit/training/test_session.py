"""A resumed session equals an uninterrupted one bit for bit; checkpoints of other trials are refused."""

from __future__ import annotations

import json
import math
import subprocess
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.small_session import made
from training.build import build_learner
from training.checkpoint import read_checkpoint, write_checkpoint
from training.data.manifest import sha256_of
from training.data.windows import load_windows
from training.devices.choice import release_cached_memory
from training.environment import git_commit
from training.errors import CheckpointError, GridError, SettingsError, TrainingError
from training.grid import param_count
from training.loop import Epoch, Learner
from training.model import PatchTST
from training.session import TrainingSession

MAPS = Path("/proc/self/maps")


def outcome(epoch: Epoch) -> dict[str, Any]:
    """Return all of an Epoch except its durations."""
    return {key: value for key, value in asdict(epoch).items() if key not in {"seconds", "paused_s"}}


def state_of(session: TrainingSession, path: Path) -> dict[str, Any]:
    session.save(path)
    return read_checkpoint(path)


def assert_same_state(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds", "paused_s"}:
            assert_same_state(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same_state(left, right)
    else:
        assert one == other


@pytest.fixture(scope="module")
def uninterrupted(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Run a trial to its end in each precision: its epochs, and its last checkpoint's state."""
    found = {}
    for precision in ("fp32", "bf16"):
        session = made(dataset, precision=precision)
        epochs = [outcome(session.step()) for _ in range(3)]
        found[precision] = epochs, state_of(session, tmp_path_factory.mktemp("straight") / "a.pt")
    return found


@pytest.mark.parametrize(("after", "precision"), [(0, "fp32"), (1, "fp32"), (1, "bf16"), (2, "fp32")])
def test_a_trial_resumed_between_epochs_equals_the_uninterrupted_one_bit_for_bit(
    dataset: Path, uninterrupted: Any, tmp_path: Path, after: int, precision: str
) -> None:
    expected, last = uninterrupted[precision]
    first = made(dataset, precision=precision)
    for _ in range(after):
        first.step()
    first.save(tmp_path / "c.pt")
    first.close()
    second = made(dataset, precision=precision)
    second.load(tmp_path / "c.pt")
    assert [outcome(second.step()) for _ in range(3 - after)] == expected[after:]
    assert_same_state(state_of(second, tmp_path / "b.pt"), last)


@pytest.mark.parametrize("batch", [1, 3, 6, 9])
def test_a_trial_resumed_in_the_middle_of_an_epoch_equals_the_uninterrupted_one(
    dataset: Path, uninterrupted: Any, tmp_path: Path, batch: int
) -> None:
    expected, last = uninterrupted["fp32"]
    calls = 0

    def gate() -> float:
        nonlocal calls
        calls += 1
        if calls == batch:
            raise InterruptedError
        return 0.0

    first = made(dataset, gate, precision="fp32")
    with pytest.raises(InterruptedError):
        [first.step() for _ in range(3)]
    first.save(tmp_path / "c.pt")
    second = made(dataset, precision="fp32")
    second.load(tmp_path / "c.pt")
    results = []
    while not results or not results[-1].finished:
        results.append(second.step())
    assert [outcome(result) for result in results] == expected[-len(results) :]
    assert_same_state(state_of(second, tmp_path / "b.pt"), last)


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process has mapped")
def test_a_loaded_checkpoint_is_closed_so_that_deleting_it_frees_the_disk(dataset: Path, tmp_path: Path) -> None:
    first = made(dataset)
    first.step()
    first.save(tmp_path / "loaded.pt")
    second = made(dataset)
    second.load(tmp_path / "loaded.pt")
    assert "loaded.pt" not in MAPS.read_text()


def test_a_checkpoint_without_a_part_is_refused(dataset: Path, tmp_path: Path) -> None:
    whole = state_of(made(dataset), tmp_path / "c.pt")
    for part in ("model", "optimizer", "progress", "rng_state", "device_rng_states", "micro_batch", "precision"):
        write_checkpoint(tmp_path / "d.pt", {key: value for key, value in whole.items() if key != part})
        with pytest.raises(CheckpointError, match=f"lacks a part that this trial needs: '{part}'"):
            made(dataset).load(tmp_path / "d.pt")


def test_a_timed_device_is_left_empty(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = made(dataset)
    windows = load_windows(session.settings)
    tried: list[weakref.ref[PatchTST]] = []
    left: list[tuple[str, PatchTST | None]] = []

    def build(*given: Any) -> Learner:
        learner = build_learner(*given)
        tried.append(weakref.ref(learner.model))
        return learner

    def release(device: str) -> None:
        release_cached_memory(device)
        left.append((device, tried[0]()))

    monkeypatch.setattr("training.session.build_learner", build)
    monkeypatch.setattr("training.session.release_cached_memory", release)
    assert 0 < session._time_step("cpu", windows) < math.inf
    assert left == [("cpu", None)]


def test_the_same_config_gives_the_same_bits_and_another_seed_does_not(dataset: Path) -> None:
    losses = [made(dataset, seed=seed).step().val_loss for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_threads_and_memory_limit_may_change_between_attempts(dataset: Path, tmp_path: Path) -> None:
    first = made(dataset)
    first.step()
    first.save(tmp_path / "c.pt")
    second = made(dataset, threads=2, memory_limit_bytes=2**40)
    second.load(tmp_path / "c.pt")
    assert second.step().number == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 2}, "seed"), ({"learning_rate": 1e-4}, "learning_rate"), ({"horizon": 1}, "horizon")],
)
def test_another_trials_checkpoint_is_refused_with_the_difference(
    dataset: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    made(dataset).save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=f"another trial: {named}$"):
        made(dataset, **change).load(tmp_path / "c.pt")


def test_the_record_is_json_and_describes_trial_and_machine(dataset: Path) -> None:
    session = made(dataset)
    record = json.loads(json.dumps(session.record()))
    assert record["param_count"] == param_count(session.architecture)
    assert record["architecture"]["num_features"] == 25
    assert record["dataset_sha256"] == sha256_of(dataset)
    assert record["device"]["chosen"] == "cpu"
    assert record["device"]["seconds_per_step"] == {"cpu": None}
    assert record["device"]["precision"] in {"fp32", "bf16"}
    assert record["libraries"]["torch"] == torch.__version__
    assert {"python", "numpy", "pandas", "TA-Lib"} <= record["libraries"].keys()
    assert 0 < record["base_rate_val"] < 1
    assert "git_commit" in record


def test_a_file_that_git_does_not_track_has_no_commit(tmp_path: Path) -> None:
    """Below another project's checkout, its commit is not ours."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    for name in ("tracked.py", "installed.py"):
        (tmp_path / name).write_text("")
    subprocess.run([*git, "add", "tracked.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "theirs"], check=True)
    assert len(git_commit(tmp_path / "tracked.py") or "") == 40
    assert git_commit(tmp_path / "installed.py") is None


def test_bad_settings_grids_and_devices_are_refused_at_once(dataset: Path) -> None:
    with pytest.raises(SettingsError):
        made(dataset, learning_rate=-1)
    with pytest.raises(GridError):
        made(dataset, shape_rank=99)
    with pytest.raises(SettingsError, match="not on this machine"):
        made(dataset, device="mps" if not torch.backends.mps.is_available() else "cuda")


def test_stepping_past_the_end_or_after_closing_is_an_error(dataset: Path, tmp_path: Path) -> None:
    session = made(dataset, max_epochs=1)
    assert session.step().end_reason == "finished"
    with pytest.raises(TrainingError, match="has ended: finished"):
        session.step()
    session.close()
    session.close()
    for use in (session.step, lambda: session.save(tmp_path / "c.pt"), lambda: session.load(tmp_path / "c.pt")):
        with pytest.raises(TrainingError, match="is closed"):
            use()
    assert session.record()["param_count"] > 0


def test_an_ended_trial_stays_ended_after_a_resume(dataset: Path, tmp_path: Path) -> None:
    session = made(dataset, max_epochs=1)
    session.step()
    session.save(tmp_path / "c.pt")
    resumed = made(dataset, max_epochs=1)
    resumed.load(tmp_path / "c.pt")
    with pytest.raises(TrainingError, match="has ended: finished"):
        resumed.step()


def test_an_ended_trial_trains_on_to_a_later_end_by_the_schedule_of_its_new_length(
    dataset: Path, tmp_path: Path
) -> None:
    """Also after early stopping; what was trained again from the same checkpoint is the same to the last bit."""
    short = made(dataset, max_epochs=2, patience=1)
    before = [short.step()]
    short.save(tmp_path / "at-1.pt")
    while before[-1].end_reason is None:
        before.append(short.step())
    short.save(tmp_path / "end.pt")

    def longer() -> TrainingSession:
        return made(dataset, max_epochs=4, patience=4)

    with pytest.raises(CheckpointError, match="max_epochs, patience"):
        longer().load(tmp_path / "end.pt")
    ended = longer()
    ended.load(tmp_path / "end.pt", longer=True)
    assert [ended.step().number for _ in range(4 - len(before))] == list(range(len(before) + 1, 5))
    assert ended.best_epoch is not None
    lives = []
    for _ in range(2):
        life = longer()
        life.load(tmp_path / "at-1.pt", longer=True)
        lives.append([outcome(life.step()) for _ in range(3)])
    assert lives[0] == lives[1]
    assert [epoch["number"] for epoch in lives[0]] == [2, 3, 4]
    assert lives[0][-1]["end_reason"] == "finished"
    whole = longer()
    rates = [whole.step().learning_rate for _ in range(4)]
    assert [epoch["learning_rate"] for epoch in lives[0]] == rates[1:]


def test_only_the_end_of_a_trial_may_differ_from_its_checkpoints(dataset: Path, tmp_path: Path) -> None:
    session = made(dataset, max_epochs=1)
    session.step()
    session.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="belongs to another trial"):
        made(dataset, max_epochs=2, learning_rate=0.123).load(tmp_path / "c.pt", longer=True)


def test_a_failed_compilation_is_recorded_and_the_trial_continues_without(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made(dataset).step()

    def broken(*_: object, **__: object) -> Callable[..., object]:
        def fail(*_: object) -> object:
            raise RuntimeError("no compiler here")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    session = made(dataset, compile=True)
    assert session.record()["device"]["compile"] == {
        "asked": True,
        "used": False,
        "error": "RuntimeError: no compiler here",
    }
    assert outcome(session.step()) == outcome(expected)
