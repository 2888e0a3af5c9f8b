"""Chooses what the live page shows of a run's status: small, bounded, plain values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.domain.command_text import calls
from supervisor.domain.lifecycle import FAILED
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import error_sentence, one_line
from supervisor.governor.policy import Policy
from supervisor.governor.thresholds import limits_of
from supervisor.sensors.reading import Kind, Reading

MAX_CAUSES = 6
MAX_NEEDS = 20
MAX_RUNNING = 64

View = Mapping[str, Any]


def status_document(view: View) -> dict[str, Any]:
    """Return the page's first message: the run, its action, its experiments, its temperatures. Times are wall seconds.

    `view` is a run's status, as the API's verb has it.
    """
    run, daemon = view["run"], view["daemon"]
    lost = list(by_cause(view["lost"]).items())[:MAX_CAUSES]
    return {
        "run": {"id": run["id"], "plan": run["plan"], "state": run["state"], "created": run["created_wall"]},
        "now": daemon["now_wall"],
        "action": _action(view["in_force"]),
        # An alert that says for how long would be read aloud at each refresh.
        "needs": calls(dict(view), timed=False)[:MAX_NEEDS],
        "eta": view.get("eta"),
        "experiments": [_experiment(one) for one in view["experiments"]],
        "temperatures": temperatures(view),
        "protected": all(node["protected"] for node in view["nodes"].values()) if view["nodes"] else None,
        "lost": [[one_line(cause), seconds] for cause, seconds in lost],
        "free_bytes": (view.get("disk") or {}).get("free_bytes"),
    }


def _action(command: View) -> dict[str, Any]:
    shown = {key: command[key] for key in ("action", "origin", "who", "since_wall", "drill")}
    return shown | {"reason": one_line(command["reason"])}


def _experiment(view: View) -> dict[str, Any]:
    counts, spec = view["counts"], view["spec"]
    failed = sum(count for reason, count in counts.items() if reason in FAILED)
    pruned, aside, running = counts.get("pruned", 0), counts.get("set_aside", 0), view["running"][:MAX_RUNNING]
    best, final = view["best"], view.get("finalized")
    return {
        "name": view["name"],
        "state": view["state"],
        "reason": None if view["reason"] is None else error_sentence(str(view["reason"])),
        "metric": spec.get("metric", "value"),
        "done": view["ended"] - failed - pruned - aside,
        "pruned": pruned,
        "failed": failed,
        "set_aside": aside,
        "running": [{key: trial[key] for key in ("number", "state", "epoch")} for trial in running],
        "total": view["max_trials"],
        "epochs": spec.get("max_epochs"),
        "doing": view.get("doing"),
        "best": None if best is None else {"value": best["value"], "trial": best["trial"]},
        "final": None if final is None else final["val_loss"],
        "eta": view.get("eta"),
        "started": view["started_wall"],
        "ended": view["ended_wall"],
    }


def temperatures(view: View) -> list[dict[str, Any]]:
    """Return each temperature of the nodes with its limits, the nearest to its pause first; None for no limit."""
    policy = Policy.from_mapping((view["run"]["hardware"] or {}).get("policy") or {})
    found = []
    for name, node in view["nodes"].items():
        for raw in node["readings"]:
            if raw["kind"] != Kind.TEMPERATURE:
                continue
            limits = limits_of(Reading.from_json(raw), policy)
            found.append(
                {"node": name, "sensor": raw["sensor_id"], "celsius": raw["value"], "soft": limits.soft,
                 "pause": limits.pause}
            )  # fmt: skip
    return sorted(found, key=_room)


def _room(temperature: View) -> tuple[bool, float]:
    """Return how far a temperature is below its pause; those without one, or without a value, come last."""
    celsius, pause = temperature["celsius"], temperature["pause"]
    if celsius is None or pause is None:
        return True, -(celsius or 0.0)
    return False, pause - celsius
