"""Compares what a trial needs with what the nodes have: Ray itself waits for ever, without a word.

As a command it prints how many GPUs a Ray head that starts here will have: `python -P -m actors.driver.resources`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from supervisor.domain.messages import ResourcesCompared

LOOK_EVERY_S = 10.0
RAY_NAMES = {"cpu": "CPU", "gpu": "GPU"}
"""Ray's names of a plan's resources."""

LOG = logging.getLogger("resources")


def shortage(shares: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Return the first of a trial's `shares` that no node has, in words; None when each fits on some node."""
    return next((words for words in (_missing(share, nodes) for share in shares) if words), None)


def _missing(needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str | None:
    if any(all(node.get(RAY_NAMES[name], 0.0) >= amount for name, amount in needs.items()) for node in nodes):
        return None
    asked = {name: amount for name, amount in needs.items() if amount > 0.0}
    most = {name: max((node.get(RAY_NAMES[name], 0.0) for node in nodes), default=0.0) for name in asked}
    return f"a trial needs {_words(asked)} on one node, and the most that a node has is {_words(most)}"


def shares_of(resources: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return a trial's own share, then those of its own tasks, which may lie on other nodes, by the plan's names."""
    shares = [resources, *resources.get("nested", ())]
    return [{name: float(share[name]) for name in RAY_NAMES if name in share} for share in shares]


def _words(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items())


class ResourceWatch:
    """Tells the daemon when no node can run a trial, and when one can again: nodes and their devices come and go."""

    def __init__(
        self,
        shares: Sequence[Mapping[str, float]],
        nodes: Callable[[], Sequence[Mapping[str, float]]],
        send: Callable[[ResourcesCompared], object],
    ) -> None:
        self._shares, self._nodes, self._send = shares, nodes, send
        self._said: str | None = None

    def start(self) -> None:
        """Look now, and from now on in a thread of its own."""
        self.look()
        threading.Thread(target=self._follow, name="resources", daemon=True).start()

    def _follow(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            try:
                self.look()
            except Exception:  # the cluster may end at any moment; the next look tells
                LOG.exception("the resources of the cluster cannot be read")

    def look(self) -> None:
        """Compare once; send what has changed."""
        found = shortage(self._shares, self._nodes())
        if found != self._said:
            self._said = found
            self._send(ResourcesCompared(found))


def of_the_cluster() -> list[dict[str, float]]:
    """Return the resources of each living node."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


if __name__ == "__main__":
    from actors.driver.ray_private import gpus_of_this_machine

    print(gpus_of_this_machine())
