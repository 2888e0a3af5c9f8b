"""A driver says when no node has the resources of a trial, once for each change."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.driver.resources import ResourceWatch, shares_of, shortage
from supervisor.domain.messages import ResourcesCompared

HEAD = {"CPU": 2.0, "memory": 1e9, "node:127.0.0.1": 1.0}
GPU_NODE = {"CPU": 1.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("needs", "nodes", "words"),
    [
        ({"cpu": 1.0, "gpu": 0.0}, [HEAD], None),
        ({"cpu": 1.0, "gpu": 0.5}, [HEAD, GPU_NODE], None),
        (
            {"cpu": 1.0, "gpu": 1.0},
            [HEAD],
            "needs 1 cpu and 1 gpu on one node, and the most that a node has is 2 cpu and 0 gpu",
        ),
        ({"cpu": 4.0, "gpu": 0.0}, [HEAD, GPU_NODE], "needs 4 cpu on one node, and the most that a node has is 2 cpu"),
        # Each is there, but on no node together.
        ({"cpu": 2.0, "gpu": 1.0}, [HEAD, GPU_NODE], "needs 2 cpu and 1 gpu on one node"),
        ({"cpu": 1.0, "gpu": 0.0}, [], "the most that a node has is 0 cpu"),
    ],
)
def test_a_trial_runs_where_one_node_has_all_that_it_needs(
    needs: dict[str, float], nodes: list[dict[str, float]], words: str | None
) -> None:
    found = shortage([needs], nodes)
    assert found is None if words is None else found is not None and words in found


def test_each_change_is_told_once() -> None:
    sent: list[ResourcesCompared] = []
    nodes = [HEAD]
    watch = ResourceWatch([{"cpu": 1.0, "gpu": 1.0}], lambda: nodes, sent.append)
    watch.look()
    watch.look()
    nodes.append(GPU_NODE)
    watch.look()
    watch.look()
    assert [message.shortage is None for message in sent] == [False, True]


def test_an_experiment_that_finds_its_resources_says_nothing() -> None:
    sent: list[ResourcesCompared] = []
    ResourceWatch([{"cpu": 1.0, "gpu": 0.0}], lambda: [HEAD], sent.append).look()
    assert sent == []


@pytest.mark.parametrize("visible", ["", "NoDevFiles"])
def test_a_machine_whose_gpus_are_hidden_has_none(visible: str) -> None:
    """Ray reads CUDA_VISIBLE_DEVICES, as its head will."""
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "actors.driver.resources"],
        capture_output=True, text=True, check=True, env={"CUDA_VISIBLE_DEVICES": visible, "HIP_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert answer.stdout.split() == ["0"]


def test_the_shares_of_a_trials_own_tasks_may_lie_on_other_nodes():
    resources = {"cpu": 1.0, "gpu": 0.0, "nested": [{"cpu": 8.0, "gpu": 0.0}]}
    assert shortage(shares_of(resources), [{"CPU": 2.0}, {"CPU": 8.0}]) is None


def test_a_share_of_a_trials_own_tasks_that_no_node_has_is_said():
    resources = {"cpu": 1.0, "gpu": 0.0, "nested": [{"cpu": 1.0, "gpu": 1.0}]}
    said = shortage(shares_of(resources), [{"CPU": 8.0}, {"CPU": 8.0}])
    assert said == "a trial needs 1 cpu and 1 gpu on one node, and the most that a node has is 8 cpu and 0 gpu"
