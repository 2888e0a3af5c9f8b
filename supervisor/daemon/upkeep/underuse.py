"""Notices cores or an accelerator that idle while work waits, and says why and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.upkeep.background import keep_looking
from supervisor.domain.command import Action
from supervisor.domain.finalists import is_final, planned_trials, search_trials
from supervisor.domain.lifecycle import TrialState
from supervisor.store import lookups
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter

LOOK_PERIOD_S = 30.0
IDLE_S = 600.0
"""The time for which the machine idles before it is an event."""
AGAIN_S = 3600.0
"""The time to the next event."""
IDLE_CORES, IDLE_SHARE = 0.75, 0.25
"""Cores idle when at least so many are free, and so large a share of them: Ray and the daemon take some of each."""
BUSY_ACCELERATOR_PERCENT = 25.0


@dataclass(frozen=True)
class Scene:
    """Describes the machine and its experiments at one look. Percents are None without a reading.

    Trials are counted over all experiments at work; `trial_cores` are those of the largest. `waiting` counts trials
    that have not begun, `searching` those of them that belong to the search; `auto` says that the machine chose
    concurrency and cores.
    """

    cores: int
    cpu_percent: float | None
    accelerator_percent: float | None
    action: Action
    concurrency: int
    trial_cores: float
    running: int
    waiting: int
    searching: int
    auto: bool

    @property
    def idle_cores(self) -> float:
        """Return the cores that nothing uses."""
        return 0.0 if self.cpu_percent is None else self.cores * (1.0 - self.cpu_percent / 100.0)


@dataclass(frozen=True)
class Underuse:
    """Names the part of the machine that idles, the cause and the cure."""

    what: str
    cause: str
    cure: str


def underuse_of(scene: Scene) -> Underuse | None:
    """Return what idles with work waiting; None if nothing does, or if a command holds the work back."""
    if scene.action is not Action.RUN or scene.waiting == 0:
        return None
    if scene.idle_cores >= max(IDLE_CORES, IDLE_SHARE * scene.cores):
        return Underuse(f"{scene.idle_cores:.1f} of {scene.cores} cores", *_cause_and_cure(scene))
    percent = scene.accelerator_percent
    if percent is not None and percent < BUSY_ACCELERATOR_PERCENT:
        cause = f"the accelerator is used to {percent:.0f} %: steps are short, or the CPU feeds it too slowly"
        return Underuse("the accelerator", cause, "let more trials share it, such as --set resources.gpu=0.5")
    return None


def _cause_and_cure(scene: Scene) -> tuple[str, str]:
    if scene.running == 0:
        return "no trial has started", "look at `supervisorctl status` and `supervisorctl tail`"
    at_work = f"{scene.running} trials of {scene.trial_cores:g} cores run"
    if scene.running < scene.concurrency and scene.searching == 0:
        return f"{at_work}: the trials after the search wait for its last ones", "none is needed: it passes"
    if scene.running < scene.concurrency:
        return f"{at_work}, {scene.concurrency} may: the others start or wait for memory", "`supervisorctl sensors`"
    if scene.concurrency * scene.trial_cores > scene.cores - IDLE_CORES:
        cause = f"{at_work} and do not keep their cores busy: they wait for the disk or for each other"
        return cause, "give a trial fewer threads: --set resources.cpu=1"
    if scene.auto:
        return (
            f"{at_work}, by the machine's choice: memory or throughput allows no more",
            "a smaller budget, more memory",
        )
    return f"{at_work}, as the plan says", "--set concurrency=auto --set resources=auto"


def scene_of(
    store: Store, run_id: str, experiments: Sequence[str], readings: Sequence[Mapping[str, Any]], action: Action,
    cores: int,
) -> Scene:  # fmt: skip
    """Return the scene of the experiments at work; `readings` are the node's latest."""
    specs = [lookups.spec(store, run_id, name) for name in experiments]
    begun = running = searched = 0
    for name, spec in zip(experiments, specs, strict=True):
        rows = lookups.trials(store, run_id, name)
        numbers = [int(row["number"]) for row in rows if row["state"] != TrialState.PENDING]
        begun, running = begun + len(numbers), running + sum(row["state"] == TrialState.RUNNING for row in rows)
        searched += sum(not is_final(spec, number) for number in numbers)
    used = {
        component: min((r["value"] for r in of_kind if r["value"] is not None), default=None)
        for component in ("cpu", "gpu")
        if (of_kind := [r for r in readings if (r["kind"], r["component"]) == ("utilisation", component)])
    }
    return Scene(
        cores=cores,
        cpu_percent=used.get("cpu"),
        accelerator_percent=used.get("gpu") if any(spec["resources"]["gpu"] > 0 for spec in specs) else None,
        action=action,
        concurrency=sum(int(spec["concurrency"]) for spec in specs),
        trial_cores=max(float(spec["resources"]["cpu"]) for spec in specs),
        running=running,
        waiting=sum(map(planned_trials, specs)) - begun,
        searching=sum(map(search_trials, specs)) - searched,
        auto=any(spec.get("chosen") for spec in specs),
    )


class UnderuseWatch:
    """Looks at the machine; `now` is what idles at present, once it has for IDLE_S."""

    def __init__(self, writer: RunWriter, clock: Clock, scene: Callable[[], Scene | None]) -> None:
        """`scene` returns None while no experiment is at work."""
        self._writer, self._clock, self._scene = writer, clock, scene
        self._since_s: float | None = None
        self._said_s: float | None = None
        self.now: Underuse | None = None

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        await keep_looking(self.look, self._clock, LOOK_PERIOD_S, "an idle machine cannot be recorded")

    def look(self) -> None:
        """Look once; record an event when the machine has idled for long, at most one in AGAIN_S."""
        now_s, scene = self._clock.mono_s(), self._scene()
        found = None if scene is None else underuse_of(scene)
        if found is None:
            self._since_s = self.now = None
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s < IDLE_S:
            return
        self.now = found
        if self._said_s is None or now_s - self._said_s >= AGAIN_S:
            self._writer.record("machine.underused", what=found.what, cause=found.cause, cure=found.cure)
            self._said_s = now_s
