"""Writes a run's figures in the text format of Prometheus, by prometheus-client, imported when first asked for."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from supervisor.domain.command import Action
from supervisor.domain.lifecycle import ENDED, ProcessState

if TYPE_CHECKING:
    from prometheus_client import Metric

MAX_CAUSES, OTHERS = 30, "other"
"""Operators may give any number of reasons, and each would be a time series."""

View = Mapping[str, Any]


class Rising:
    """Makes counters of figures that may fall: Prometheus takes a fall for a start at zero, and counts all anew.

    Lost time falls where the clock is set back, and the number of epochs where a trial begins anew.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, float] = {}
        self._shown: dict[Hashable, float] = {}

    def of(self, key: Hashable, value: float) -> float:
        """Return the counter of `key`, risen by what `value` has risen since the last call."""
        last = self._last.get(key, 0.0)
        self._last[key] = value
        self._shown[key] = self._shown.get(key, 0.0) + max(0.0, value - last)
        return self._shown[key]


def metrics_text(
    view: View, epochs: Mapping[str, int], temperatures: Iterable[View], rising: Rising | None = None
) -> str:
    """Return the figures of a run's status, with the reported epochs by experiment.

    `temperatures` are those of document.temperatures; `rising` holds the counters of the calls before.
    """
    counters = rising or Rising()
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _of_run(view, counters)
            yield from _of_experiments(view, epochs, counters)
            yield from _of_machine(view, temperatures)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry).decode()


def _of_run(view: View, rising: Rising) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

    run, daemon, command = view["run"], view["daemon"], view["in_force"]
    yield InfoMetricFamily(
        "sweep", "The run", value={"run": run["id"], "plan": run["plan"], "version": daemon["version"]}
    )
    yield _one_of("sweep_run_state", "1 for the state of the run", "state", ProcessState, run["state"])
    actions = [action.name for action in Action]
    yield _one_of("sweep_action", "1 for the action in force", "action", actions, command["action"])
    lost = CounterMetricFamily("sweep_lost_seconds", "Seconds lost over all trials", labels=["cause"])
    for cause, seconds in _bounded(view["lost"]).items():
        lost.add_metric([cause], round(rising.of(("lost", cause), seconds), 1))
    yield lost


def _one_of(name: str, text: str, label: str, values: Iterable[str], now: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([str(value)], float(value == now))
    return family


def _bounded(lost: Iterable[View]) -> dict[str, float]:
    """Return the seconds of the first causes, and of the others together.

    Of the largest ones another would be shown at times, and the others together would lose its seconds.
    """
    total: dict[str, float] = {}
    for entry in lost:
        cause = entry["cause"] if entry["cause"] in total or len(total) < MAX_CAUSES else OTHERS
        total[cause] = total.get(cause, 0.0) + entry["seconds"]
    return total


def _of_experiments(view: View, epochs: Mapping[str, int], rising: Rising) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    trials = GaugeMetricFamily(
        "sweep_trials", "Trials by state: running, paused, waiting, or how they ended", labels=["experiment", "state"]
    )
    best = GaugeMetricFamily("sweep_best_value", "The best value of the search", labels=["experiment", "metric"])
    done = CounterMetricFamily("sweep_epochs", "Epochs whose result is stored", labels=["experiment"])
    for one in view["experiments"]:
        name, running = one["name"], [trial["state"] for trial in one["running"]]
        counts = {
            "running": running.count("RUNNING"), "paused": running.count("PAUSED"),
            "waiting": 0 if one["state"] in ENDED else max(0, one["max_trials"] - one["ended"] - len(running)),
            **one["counts"],
        }  # fmt: skip
        for state, count in counts.items():
            trials.add_metric([name, state], float(count))
        if one["best"] is not None:
            best.add_metric([name, str(one["spec"].get("metric", "value"))], float(one["best"]["value"]))
        done.add_metric([name], rising.of(("epochs", name), float(epochs.get(name, 0))))
    yield from (trials, best, done)


def _of_machine(view: View, temperatures: Iterable[View]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    labels = ["node", "sensor"]
    celsius = GaugeMetricFamily("sweep_temperature_celsius", "Temperatures as last read", labels=labels)
    limit = GaugeMetricFamily("sweep_temperature_pause_celsius", "Temperatures at which work pauses", labels=labels)
    for one in temperatures:
        for family, value in ((celsius, one["celsius"]), (limit, one["pause"])):
            if value is not None:
                family.add_metric([one["node"], one["sensor"]], float(value))
    yield from (celsius, limit)
    free = (view.get("disk") or {}).get("free_bytes")
    if free is not None:
        yield GaugeMetricFamily("sweep_disk_free_bytes", "Free bytes of the disk of the state", value=float(free))
