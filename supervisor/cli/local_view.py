"""A run as its store tells it when no daemon is there to ask. Standard library only."""

from __future__ import annotations

from typing import Any

from supervisor.errors import NotFound, NotRunning, StoreDamaged
from supervisor.home import Home
from supervisor.home_lock import is_held
from supervisor.store import queries
from supervisor.store.database import read_only
from supervisor.store.status_cache import StatusView


def last_view(home: Home, run_or_plan: str | None = None, *, trials: bool = True) -> dict[str, Any]:
    """The snapshot of the newest run, of the run named, or of the newest run of the plan named.

    Raises NotRunning when a daemon holds the home (ask it instead), NotFound when there is no such run.
    """
    if is_held(home):
        raise NotRunning("a daemon holds this home but does not answer", remedy="try again in a moment")
    if not home.store.exists():
        raise NotFound("this home has no run yet", remedy="start one with `supervisord start smoke`")
    with read_only(home.store) as connection:
        found = queries.latest_run(connection, run_or_plan) if run_or_plan else queries.latest_run(connection)
        if found is None and run_or_plan is not None:
            found = queries.latest_run(connection, plan=run_or_plan)
        if found is None:
            raise NotFound(f"there is no run or plan {run_or_plan!r} in this home")
        try:
            return queries.run_snapshot(connection, found) if trials else StatusView(connection, found).now()
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # Every page of the file is sound, and what stands on one is nonsense.
            raise StoreDamaged(f"{home.store} holds what no store does: {error}") from error
