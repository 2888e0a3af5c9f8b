"""Handles the verbs by which a person changes the work of a run that goes on (control.api.Steering)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.target_names import ALL, TargetNames
from supervisor.domain.early_ends import Named
from supervisor.domain.run_words import BUILT_IN
from supervisor.errors import Conflict, UsageError
from supervisor.plan.drift import sha256_of
from supervisor.store import lookups
from supervisor.store.plan_queries import RunPlan, plan_of_run
from supervisor.store.run_writer import RunWriter
from supervisor.store.steering.extended_trials import ExtendedTrials
from supervisor.store.steering.steer_writer import PlanChange, SteerWriter

if TYPE_CHECKING:
    from supervisor.plan.patch import Patch
    from supervisor.plan.reread import Comparison


class Steering:
    """Records each wish, then passes it on. Each verb raises SweepError to refuse, and changes nothing then."""

    def __init__(
        self, writer: RunWriter, orchestrator: Orchestrator, taken_over: Callable[[str], None] = lambda _: None
    ) -> None:
        """`taken_over` gets the SHA-256 of the plan's file when the run's plan has become like it."""
        self._writer, self._orchestrator, self._taken_over = writer, orchestrator, taken_over
        self._steer = SteerWriter(writer.store, writer.run_id)

    async def end(self, targets: Sequence[str], who: str) -> dict[str, Any]:
        """End trials of the search, each at its next report with the best value that it has then."""
        self._refuse_at_the_end()
        taken = self._steer.end_trials(self._names().trials(targets), who)
        # Before the driver hears of it, and ends them.
        store, run_id = self._writer.store, self._writer.run_id
        names = dict.fromkeys(one.experiment for one in taken)
        rows = {(name, row["number"]): row for name in names for row in lookups.trials(store, run_id, name)}
        await self._orchestrator.spec_changed({one.experiment for one in taken})
        return {
            "trials": [
                {"experiment": one.experiment, "trial": one.trial, "state": rows[one.experiment, one.trial]["state"]}
                for one in taken
            ]
        }

    async def discard(self, targets: Sequence[str], restore: bool, who: str) -> dict[str, Any]:
        """Take ended trials out of what their searches know, or back into it; the driver at work begins anew.

        An experiment whose finalisation has begun chooses anew; one that has ended runs again for that.
        """
        self._refuse_at_the_end()
        found = self._names().trials(targets)
        chosen = self._chosen({one.experiment for one in found})
        if chosen and self._orchestrator.ending():
            raise Conflict(
                f"{', '.join(chosen)} would choose anew, and the run is ending",
                remedy="once it has ended, `supervisord start --extend EXPERIMENT=TRIALS` opens it; then ask again",
            )
        taken = self._steer.discard(found, who, restore=restore)
        anew = "trials were restored" if restore else "trials were discarded"
        names = {one.experiment for one in taken}
        await self._orchestrator.spec_changed(names, anew=anew)
        return {"trials": [str(one) for one in taken], "set_aside": [name for name in chosen if name in names]}

    def _chosen(self, names: Collection[str]) -> list[str]:
        """Return those of these experiments that have begun a finalisation, which the verb would set aside."""
        return [name for name in sorted(names) if self._steer.has_chosen(name)]

    async def skip(self, targets: Sequence[str], who: str) -> dict[str, Any]:
        """Leave experiments out: what runs of them ends now, their search and answer are left out."""
        self._refuse_at_the_end()
        taken = self._steer.leave_out(self._names().experiments(targets), who)
        await self._orchestrator.left_out()
        return {"experiments": [one.experiment for one in taken]}

    async def put_next(self, targets: Sequence[str], who: str) -> dict[str, Any]:
        """Let experiments begin before the others that wait."""
        self._refuse_at_the_end()
        taken = self._steer.put_next(self._names().experiments(targets), self._orchestrator.experiment, who)
        return {"experiments": [one.experiment for one in taken]}

    async def change(self, targets: Sequence[str], sets: Sequence[str], who: str) -> dict[str, Any]:
        """Change keys of the plan for the rest of the run, for the experiments named or for all."""
        from supervisor.plan.patch import patch  # loads the reader of YAML, which most runs never need

        self._refuse_at_the_end()
        if not sets:
            raise UsageError("expected KEY=VALUE, found none", remedy="write such as concurrency=4")
        store, run_id = self._writer.store, self._writer.run_id
        found = self._names().experiments(targets or [ALL])
        plan = plan_of_run(store.connection, run_id)
        specs = {one.experiment: lookups.spec(store, run_id, one.experiment) for one in found}
        made = patch(plan.text, plan.sets, sets, specs, plan.policy)
        everywhere = not targets or ALL in targets
        wish = PlanChange(made.sets, made.specs, made.policy, everywhere=everywhere, schedule=made.schedule)
        changed = self._steer.change_plan(found, wish, who)
        await self._tell(changed.effects, made)
        return {
            "effects": changed.effects, "refused": changed.refused, "policy": made.policy is not None,
            "schedule": made.schedule,
        }  # fmt: skip

    async def _tell(self, effects: Collection[str], made: Patch | Comparison) -> None:
        """Tell the driver at work what has changed; a schedule that was taken away restrains no longer."""
        await self._orchestrator.spec_changed(effects, made.policy)
        if made.schedule is not None:
            await self._orchestrator.commands_changed()

    async def reread(self, apply: bool, who: str) -> dict[str, Any]:
        """Compare the plan's file with the run's plan; with `apply` take over what can change."""
        store, run_id = self._writer.store, self._writer.run_id
        plan = plan_of_run(store.connection, run_id)
        # In a thread: a grid may take a while.
        found, sha256 = await asyncio.to_thread(_read, plan)
        answer: dict[str, Any] = {
            "changes": list(found.changes), "refused": list(found.refused), "effects": {}, "applied": False,
            "schedule": found.schedule,
        }  # fmt: skip
        taken_over = found.specs or found.policy or found.schedule is not None or not found.refused
        if not apply or not found.changes or not taken_over:
            return answer
        self._refuse_at_the_end()
        if plan_of_run(store.connection, run_id) != plan:
            raise Conflict("the run's plan was changed meanwhile", remedy="ask again")
        if found.fingerprint is None:
            sha256 = None  # taken over in part, the file still differs
        changed = self._steer.change_plan(
            [Named(name, exact=False) for name in plan.specs],
            PlanChange(
                found.changes, found.specs, found.policy, found.text, found.fingerprint, sha256, schedule=found.schedule
            ),
            who,
        )
        if sha256 is not None:
            self._taken_over(sha256)
        await self._tell(changed.effects, found)
        refused = [*answer["refused"], *changed.refused]
        return {**answer, "refused": refused, "effects": changed.effects, "applied": True}

    async def enqueue(self, targets: Sequence[str], text: str, who: str) -> dict[str, Any]:
        """Let searches try a point before they sample on: {PARAMETER: VALUE, ...} as JSON or YAML."""
        from supervisor.plan.patch import point_of  # as above

        self._refuse_at_the_end()
        store, run_id = self._writer.store, self._writer.run_id
        names = [one.experiment for one in self._names().experiments(targets)]
        points = {name: point_of(lookups.spec(store, run_id, name), text) for name in names}
        self._steer.enqueue(points, who)
        await self._orchestrator.spec_changed(names)
        return {"points": points}

    async def extend(self, targets: Sequence[str], trials: int, hours: float, who: str) -> dict[str, Any]:
        """Give searches more trials, and hours; an experiment that has ended runs again.

        One whose finalisation has begun chooses anew: its driver at work begins anew, too.
        """
        self._refuse_to_extend("EXPERIMENT=TRIALS")
        found = self._names().experiments_only(targets)
        chosen = self._chosen({one.experiment for one in found})
        totals = self._steer.extend(dict.fromkeys(found, trials), hours, who)
        aside = [name for name in chosen if name in totals]
        await self._orchestrator.spec_changed(totals.keys() - aside)
        await self._orchestrator.spec_changed(aside, anew="the finalisation was set aside")
        return {"max_trials": totals, "set_aside": aside}

    async def extend_trials(self, targets: Sequence[str], epochs: int, anew: bool, who: str) -> dict[str, Any]:
        """Let ended trials train on, from their newest checkpoints or `anew`; the driver at work begins anew.

        An experiment whose finalisation has begun chooses anew once they have ended.
        """
        self._refuse_to_extend("EXPERIMENT/TRIAL=EPOCHS")
        found = self._names().trials_only(targets)
        chosen = self._chosen({one.experiment for one in found})
        writer = ExtendedTrials(self._writer.store, self._writer.run_id)
        extended = writer.extend(dict.fromkeys(found, epochs), who, anew=anew)
        names = {one.experiment for one in extended}
        await self._orchestrator.spec_changed(names, anew="trials were extended")
        return {
            "trials": [asdict(one) for one in extended], "set_aside": [name for name in chosen if name in names],
        }  # fmt: skip

    def _refuse_to_extend(self, what: str) -> None:
        if self._orchestrator.ending():
            raise Conflict("the run is ending", remedy=f"once it has ended: `supervisord start --extend {what}`")

    def _names(self) -> TargetNames:
        return TargetNames(self._writer.store, self._writer.run_id, self._orchestrator.experiment)

    def _refuse_at_the_end(self) -> None:
        if self._orchestrator.stop.asked():
            raise Conflict("the run is ending", remedy="the next `supervisord start` goes on; then ask again")


def compared(plan: RunPlan) -> Comparison:
    """Return the differences between a run's plan and its file. Raises PlanError when the file is no plan now."""
    from supervisor.plan.reread import compare  # as above

    return compare(plan.file, plan.text, plan.sets, plan.options, plan.policy, plan.data, plan.specs)


def _read(plan: RunPlan) -> tuple[Comparison, str | None]:
    """Return the differences and the hash of the file that has them. Raises Conflict if it is being edited."""
    sha256 = _sha256(plan)
    found = compared(plan)
    if _sha256(plan) != sha256:
        raise Conflict("the plan's file was changed meanwhile", remedy="ask again")
    return found, sha256


def _sha256(plan: RunPlan) -> str | None:
    return None if plan.source == BUILT_IN else sha256_of(Path(plan.source))
