"""AdamW computes what PyTorch's does bit for bit, and a worker that trains never loads PyTorch's compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.training.small_trial import config
from tests.waits import NET_S
from training.build import AdamW

TRAIN = """
import json, sys
from pathlib import Path
from training.session import TrainingSession

session = TrainingSession(json.loads(sys.argv[1]), gate=lambda: 0.0)
session.step()
session.save(Path(sys.argv[2]))
session.close()
resumed = TrainingSession(json.loads(sys.argv[1]), gate=lambda: 0.0)
resumed.load(Path(sys.argv[2]))
resumed.step()
print([name for name in ("torch._dynamo", "torch._inductor", "sympy", "sklearn", "matplotlib") if name in sys.modules])
"""


def after_steps(kind: type[torch.optim.Optimizer], count: int, again: bool = False) -> list[torch.Tensor]:
    """Return the weights after some steps; with `again` the optimiser's state passes through another one of it."""
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    inputs = torch.randn(8, 5)
    groups = [{"params": list(model.parameters()), "weight_decay": 0.1}]
    optimizer = kind(groups, lr=3e-3, betas=(0.9, 0.95), fused=True)  # type: ignore[call-arg]
    for step in range(count):
        if again and step == count // 2:
            state = optimizer.state_dict()
            optimizer = kind(groups, lr=1.0, fused=True)  # type: ignore[call-arg]
            optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=True)
        model(inputs).square().mean().backward()
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


@pytest.mark.parametrize("again", [False, True])
def test_it_computes_what_pytorchs_does(*, again: bool) -> None:
    ours, theirs = after_steps(AdamW, 6, again), after_steps(torch.optim.AdamW, 6, again)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(ours, after_steps(AdamW, 5), strict=True))


def test_a_trial_that_trains_saves_and_resumes_loads_no_compiler(dataset: Path, tmp_path: Path) -> None:
    arguments = [json.dumps(config(dataset)), str(tmp_path / "state.pt")]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *arguments], capture_output=True, text=True, timeout=NET_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
