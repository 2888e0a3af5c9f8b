"""A trial on an accelerator, by a stand-in: its queue, its random generator, its precision and its resume."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from supervisor.clock import FakeClock
from tests.unit.training.small_learner import made as made_learner
from tests.unit.training.small_session import made
from tests.unit.training.stand_in import Generator, Queue, stand_in
from training.build import load_optimizer
from training.checkpoint import read_checkpoint, write_checkpoint
from training.devices.accelerator import accelerator_of
from training.devices.choice import device_memory_bytes, release_cached_memory
from training.errors import CheckpointError
from training.loop import MAX_QUEUED_BATCHES, QUEUE_S, epochs


@pytest.mark.parametrize(
    ("queue_s", "work_s", "longest"), [(1e-4, 5e-3, MAX_QUEUED_BATCHES), (1e-3, 0.2, 4), (1.0, 23.0, 1), (1.0, 0.5, 1)]
)
def test_the_gate_opens_only_when_the_device_has_done_what_was_queued(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, queue_s: float, work_s: float, longest: int
) -> None:
    """Fast batches are queued, at most 16 and about a second of them; slow ones are waited for one by one."""
    learner, windows = made_learner(dataset, max_epochs=1, batch_size=4)
    learner.accelerator = stand_in(Generator())
    clock = FakeClock()
    queue = Queue(clock.sleep, queue_s, work_s)
    queue.attach(monkeypatch)
    done: list[float] = []

    def gate() -> float:
        done.append(clock.mono_s())
        return 0.0

    list(epochs(learner, windows, gate, clock.mono_s))
    batch_s = max(queue_s, work_s)
    assert sum(queue.lengths) == -(-len(windows.train) // 4)
    assert max(queue.lengths) == longest
    assert max(after - before for before, after in pairwise(done)) <= QUEUE_S + batch_s + queue_s


def test_an_interruption_at_the_gate_loses_no_batch_of_the_queue(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of losses is read before the gate is asked, however many batches were queued."""
    learner, windows = made_learner(dataset, max_epochs=1, batch_size=4)
    learner.accelerator = stand_in(Generator())
    clock = FakeClock()
    Queue(clock.sleep, 1e-4, 1e-3).attach(monkeypatch)
    asked = iter(range(5))

    def gate() -> float:
        if next(asked, None) is None:
            raise InterruptedError
        return 0.0

    with pytest.raises(InterruptedError):
        list(epochs(learner, windows, gate, clock.mono_s))
    assert learner.progress.batch > MAX_QUEUED_BATCHES
    assert learner.progress.loss_sum == 4.0 * learner.progress.batch


def test_the_generator_of_the_device_is_lent_and_given_back(dataset: Path) -> None:
    generator = Generator()
    generator.state += 100
    learner, _ = made_learner(dataset)
    learner.accelerator, learner.device_rng_state = stand_in(generator), torch.full((4,), 7, dtype=torch.uint8)
    with learner.own_randomness():
        assert generator.draw() == 8
    assert generator.draw() == 101, "other code's numbers go on as if the trial had drawn none"
    with learner.own_randomness_discarded():
        assert generator.draw() == 9
    with learner.own_randomness():
        assert generator.draw() == 9, "a step on trial has drawn none"


@pytest.mark.parametrize("kind", ["mps", "cuda"])
def test_a_checkpoint_keeps_the_generator_of_its_device(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    generator = Generator()
    monkeypatch.setattr("training.build.accelerator_of", lambda device: stand_in(generator, kind))
    drawn: list[int] = []

    def gate() -> float:
        drawn.append(generator.draw())
        return 0.0

    first = made(dataset, gate)
    first.step()
    first.save(tmp_path / "c.pt")
    saved_at = drawn[-1]
    first.step()
    assert drawn[-1] > saved_at
    drawn.clear()
    second = made(dataset, gate)
    second.load(tmp_path / "c.pt")
    second.step()
    # A slow machine asks the gate more often, so the count of draws is not compared.
    assert drawn == list(range(saved_at + 1, saved_at + 1 + len(drawn)))
    assert drawn
    assert list(read_checkpoint(tmp_path / "c.pt")["device_rng_states"]) == [kind]


def test_a_trial_that_comes_to_another_device_begins_with_its_seed_there(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without the GPU, or with another kind: the other kind's state means nothing here."""
    generator = Generator()
    first = made(dataset)
    first.step()
    first.save(tmp_path / "c.pt")
    monkeypatch.setattr("training.build.accelerator_of", lambda device: stand_in(generator))
    second = made(dataset, seed=1)
    second.load(tmp_path / "c.pt")
    assert second.step().number == 2


@pytest.mark.parametrize(("before", "after"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_resumed_trial_keeps_the_precision_that_auto_meant_before(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setattr("training.build.multiplies_in_bf16", lambda device: before == "bf16")
    first = made(dataset, precision="auto")
    first.step()
    first.save(tmp_path / "c.pt")
    expected = first.step()
    monkeypatch.setattr("training.build.multiplies_in_bf16", lambda device: after == "bf16")
    second = made(dataset, precision="auto")
    assert second.record()["device"]["precision"] == after
    second.load(tmp_path / "c.pt")
    assert second.record()["device"]["precision"] == before
    assert second.record()["memory"] == first.record()["memory"]
    assert second.step().val_loss == expected.val_loss


def test_a_precision_that_contradicts_the_checkpoint_is_refused_with_the_cure(dataset: Path, tmp_path: Path) -> None:
    made(dataset, precision="bf16").save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="trained in bf16, and the config asks for fp32") as caught:
        made(dataset, precision="fp32").load(tmp_path / "c.pt")
    assert "Set precision to bf16 or auto" in caught.value.remedy


def test_a_resume_on_an_accelerator_copies_no_moments_in_the_machines_memory(tmp_path: Path) -> None:
    """torch's device "meta" stands for the accelerator: what is copied to it takes no memory here."""
    numbers = 1_000_000
    source = torch.nn.Parameter(torch.ones(numbers))
    optimizer = torch.optim.AdamW([source])
    source.grad = torch.ones(numbers)
    optimizer.step()
    write_checkpoint(tmp_path / "c.pt", {"optimizer": optimizer.state_dict()})
    state = read_checkpoint(tmp_path / "c.pt")["optimizer"]

    def copied_bytes(device: str) -> int:
        target = torch.optim.AdamW([torch.nn.Parameter(torch.empty(numbers, device=device))])
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            load_optimizer(target, state)
        return sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())

    assert copied_bytes("meta") < 1000
    assert copied_bytes("cpu") >= 2 * 4 * numbers, "a CPU's moments are no longer those of the mapped file"


def test_metal_is_asked_by_the_names_that_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shares the machine's memory: the smaller of the two figures counts."""
    emptied: list[str] = []
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 45)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    assert device_memory_bytes("mps", cpu_available_bytes=1000) == 70
    assert device_memory_bytes("mps", cpu_available_bytes=7) == 7
    found = accelerator_of("mps")
    assert found is not None
    assert found.held_bytes() == 45
    release_cached_memory("mps")
    assert emptied == ["mps"]
    assert accelerator_of("cpu") is None
