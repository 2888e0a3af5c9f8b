"""Turns the words of the command line into the scope of a command. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supervisor.domain.command import Command
from supervisor.domain.lifecycle import AT_WORK, TRIAL_ENDED, ProcessState, TrialState
from supervisor.domain.scope import ALL_NODES, MAX_HELD_TRIALS, trial_of, trial_scope
from supervisor.errors import Conflict, NotFound, UsageError
from supervisor.store import lookups
from supervisor.store.database import Store

NODE_CHARACTERS = 12
MAX_NAMES = 20


class ScopeResolver:
    """Knows the names of one run: experiments and trials from the store, nodes from their watchdogs.

    `current` is the experiment at work. Each method raises NotFound with the names that exist.
    """

    def __init__(self, store: Store, run_id: str, plan: str, current: str | None, nodes: Iterable[str]) -> None:
        self._store, self._run_id, self._plan = store, run_id, plan
        self._current, self._nodes = current, sorted(nodes)

    def to_pause(self, target: str | None, node: str | None, commands: Sequence[Command]) -> str:
        """Return the scope of a new command.

        Raises Conflict if it cannot be paused now, UsageError for both a target and a node.
        """
        scope = self._scope(target, node, ())
        trial = trial_of(scope)
        if trial is not None:
            state = self._trial_state(*trial)
            if state in TRIAL_ENDED:
                raise Conflict(f"trial {scope} has ended ({state.value})")
            held = [command for command in commands if command.trial is not None and command.scope != scope]
            if len(held) >= MAX_HELD_TRIALS:
                raise Conflict(f"{len(held)} trials are paused one by one", remedy="pause the experiment instead")
        return scope

    def to_resume(self, target: str | None, node: str | None, commands: Sequence[Command]) -> str:
        """Return the scope of a command to lift; its node or trial may be gone."""
        return self._scope(target, node, [command.scope for command in commands])

    def to_retry(self, target: str | None) -> tuple[str | None, int | None]:
        """Return the experiment and the trial that are tried again; None for all of the run or of the experiment."""
        if target is None or target in (self._run_id, self._plan):
            return None, None
        if target in self._experiments():
            return target, None
        return trial_of(self._trial(target, set())) or (None, None)

    def to_finish(self, target: str | None) -> str:
        """Return the experiment whose search ends: the one at work when left out. Raises Conflict when none is."""
        if target is not None and target not in self._experiments():
            raise NotFound(f"no experiment {target!r} in this run; there are {', '.join(self._experiments())}")
        rows = lookups.experiments(self._store, self._run_id)
        found = target or next((str(row["name"]) for row in rows if ProcessState(row["state"]) in AT_WORK), None)
        if found is None:
            raise Conflict("no experiment is at work now", remedy="name one: `supervisorctl finish EXPERIMENT`")
        return found

    def to_drill(self, node: str) -> str:
        """Return the id of a node from its first characters."""
        return self._node(node, self._nodes)

    def _scope(self, target: str | None, node: str | None, known: Iterable[str]) -> str:
        if target is not None and node is not None:
            raise UsageError("a target and --node cannot be given together")
        known = set(known)
        if node is not None:
            others = {scope for scope in known if scope != ALL_NODES and trial_of(scope) is None}
            return self._node(node, sorted({*self._nodes, *others}))
        if target is None or target in (self._run_id, self._plan):
            return ALL_NODES
        if target in self._experiments():
            return self._experiment(target)
        return self._trial(target, known)

    def _node(self, wanted: str, nodes: Sequence[str]) -> str:
        found = [node for node in nodes if node.startswith(wanted)] if wanted else []
        if len(found) == 1:
            return found[0]
        names = ", ".join(node[:NODE_CHARACTERS] for node in nodes) or "none yet"
        if found:
            raise NotFound(
                f"{wanted!r} is the beginning of {len(found)} node ids", remedy=f"write more of one: {names}"
            )
        raise NotFound(f"no node id begins with {wanted!r}; the nodes are {names}")

    def _experiment(self, name: str) -> str:
        if name != self._current:
            raise Conflict(f"{name} is not running now; {self._current or 'no experiment'} is")
        # Experiments run one after another, so a pause of this one is a pause of the run.
        return ALL_NODES

    def _trial(self, target: str, known: set[str]) -> str:
        experiment, slash, number = target.rpartition("/")
        if not slash:
            experiment = self._current or ""
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise NotFound(
                f"no experiment {target!r} in this run; there are {', '.join(self._experiments())}",
                remedy="a trial is a number, or EXPERIMENT/NUMBER",
            )
        scope = trial_scope(experiment, int(number))
        if scope not in known:
            self._trial_state(experiment, int(number))
        return scope

    def _trial_state(self, experiment: str, number: int) -> TrialState:
        if experiment not in self._experiments():
            raise NotFound(
                f"no experiment {experiment!r} in this run; there are {', '.join(self._experiments())}"
                if experiment
                else f"no experiment is at work, so trial {number} needs its experiment's name",
                remedy=f"write EXPERIMENT/{number}",
            )
        row = lookups.trial(self._store, self._run_id, experiment, number)
        if row is None:
            raise NotFound(f"no trial {number} in {experiment}; not ended are {self._live(experiment)}")
        return TrialState(row["state"])

    def _live(self, experiment: str) -> str:
        rows = lookups.unfinished_trials(self._store, self._run_id, experiment)[:MAX_NAMES]
        return ", ".join(str(row["number"]) for row in rows) or "none"

    def _experiments(self) -> list[str]:
        return [str(row["name"]) for row in lookups.experiments(self._store, self._run_id)]
