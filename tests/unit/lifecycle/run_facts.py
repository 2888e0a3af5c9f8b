"""Hold what a store should hold of a run, its experiments and its trials."""

from __future__ import annotations

from dataclasses import dataclass, field

EXPERIMENTS = ("a", "b")
MAX_TRIALS, FINAL = 3, 1
"""The trials of a search, and those of its finalisation: one configuration on one seed."""
GOOD_ENDS = ("finished", "pruned", "early_stopped")
AT_WORK = ("STARTING", "RUNNING", "PAUSED", "BACKOFF", "STOPPING")
OVER = ("EXITED", "FATAL", "SKIPPED")
AT = {"HOLD": 1, "PAUSE": 4, "STOP": 5}
"""The steps of the ladder, strictest last."""


@dataclass(frozen=True)
class Extension:
    """The epoch at which an extended trial ends, the end that it had, and whether the extension failed."""

    last_step: int
    end_reason: str
    value: float | None
    failed: bool = False


@dataclass
class Trial:
    state: str = "PENDING"
    attempt: int = 0
    end_reason: str | None = None
    value: float | None = None
    error: str | None = None
    checkpoint_step: int | None = None
    final: bool = False
    """True for a trial of a finalisation that counts."""
    results: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """By epoch: the last attempt that reported it, and its value."""
    lived: dict[int, bool] = field(default_factory=dict)
    """By attempt: whether it is live."""
    extension: Extension | None = None
    """The extension that a person last asked for; None without one."""

    @property
    def over(self) -> bool:
        return self.state in ("TERMINATED", "ERROR")

    @property
    def live(self) -> bool:
        return self.state in ("RUNNING", "PAUSED")


@dataclass
class Experiment:
    state: str = "STOPPED"
    action: str | None = None
    origin: str | None = None
    """The action and origin of the command that pauses it."""
    error: str | None = None
    """The reason of a FATAL one."""

    @property
    def at_work(self) -> bool:
        return self.state in ("RUNNING", "PAUSED")


@dataclass
class Run:
    state: str = "STOPPED"
    desired: str = "run"
    given_up: bool = False
    commands: dict[str, str] = field(default_factory=dict)
    """The operator's, by scope: the action."""
    experiments: dict[str, Experiment] = field(default_factory=lambda: {name: Experiment() for name in EXPERIMENTS})
    trials: dict[tuple[str, int], Trial] = field(default_factory=dict)
    finishing: set[str] = field(default_factory=set)
    """The experiments that a person asked to finish."""
    searched: dict[str, int] = field(default_factory=dict)
    """The trials of each search that ended early."""
    left_out: set[str] = field(default_factory=set)
    """The experiments that a person leaves out."""
    ending: set[tuple[str, int]] = field(default_factory=set)
    """The trials that a person ends at their next report."""
    at_once: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, 1))
    """The concurrency of each experiment, which a person may change."""
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, MAX_TRIALS + FINAL))
    """The `max_trials` of each experiment, to which a person may add."""
    discarded: set[tuple[str, int]] = field(default_factory=set)
    """The trials that a person took out of their searches."""
    tested: set[str] = field(default_factory=set)
    """The experiments of which the test was opened, and read."""
    started: set[str] = field(default_factory=set)
    """The experiments of which a driver was started."""
    put_next: set[str] = field(default_factory=set)
    """The experiments that a person lets begin next."""
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXPERIMENTS, 0))
    """The number of points that a person enqueued, by experiment."""
    refused: int = 0
    """The number of refused messages, each of which is an event."""
    entries: list[str] = field(default_factory=list)
    """The entries of the queue that this run began or resumed."""
