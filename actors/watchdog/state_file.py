"""The file of a node's governor state: the state outlives the watchdog, its driver and the cluster."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from supervisor.clock import Now
from supervisor.domain.command import Action
from supervisor.filesystem import write_atomically
from supervisor.governor.state import GovernorState

KEPT_S = 3600.0
"""The time that the governor looks back (flap control); an older state says nothing about the machine of now."""

LOG = logging.getLogger("watchdog")


def state_path(prefix: str, node: str, hosts: Mapping[str, str]) -> str:
    """Return the path for a node's state: named by its host, since a node's id dies with its cluster.

    Where one host has several nodes, as in a simulated cluster, all but the first have their id in the name.
    """
    host = hosts[node]
    first = min(other for other, its_host in hosts.items() if its_host == host)
    name = "".join(character if character.isalnum() or character in "-." else "_" for character in host)
    return f"{prefix}.{name}" if node == first else f"{prefix}.{name}.{node[:12]}"


def read_state(file: Path, now: Now) -> GovernorState:
    """Return the state of the node's last governor. A STOP holds until an operator lifts it, all else for KEPT_S."""
    try:
        state = GovernorState.from_json(json.loads(file.read_text()))
        old = state.last is None or not 0.0 <= now.wall_s - state.last.wall_s <= KEPT_S
    except FileNotFoundError:
        return GovernorState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # Of another version, or torn by a crash. A governor without state is merely more careful at first.
        LOG.warning("the governor's state in %s cannot be used, it begins anew: %s", file, error)
        return GovernorState()
    if not old:
        return state
    if state.action is Action.STOP:
        # Without its sensors: since the machine's last boot some may be absent, which is not lost.
        return GovernorState(action=Action.STOP, reason=state.reason, protected=state.protected)
    return GovernorState()


def write_state(file: Path, state: GovernorState) -> None:
    """Keep the state; a failure is only logged."""
    try:
        write_atomically(file, json.dumps(state.to_json()).encode(), durable=False)
    except OSError as error:
        # A full disk must not stop the watchdog, which has to report just that.
        LOG.warning("the governor's state cannot be kept: %s", error)
