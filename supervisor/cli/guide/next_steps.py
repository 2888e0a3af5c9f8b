"""Names the next command to type after an error that names none itself."""

from __future__ import annotations

from supervisor import errors
from supervisor.errors import SweepError

DOCTOR = "`supervisorctl doctor` looks for the cause"
NEXT: dict[type[SweepError], str] = {
    errors.UsageError: "`{program} --help` lists the verbs; `{program} VERB --help` has examples",
    errors.PlanError: "correct the plan, then `supervisord check PLAN`; `supervisord plans` lists the built-in ones",
    errors.NotFound: "`supervisorctl status` names the experiments and trials; `supervisorctl gc` lists the runs",
    errors.Conflict: "`supervisorctl status` shows the present state",
    errors.Refused: "`supervisorctl status` shows the present state",
    errors.NotPermitted: "`supervisorctl doctor` shows which user owns the files; set SWEEP_HOME to a folder of yours",
    errors.PlanChanged: "`supervisord start PLAN --new` begins a run with the plan as it is now",
    errors.RayStartFailed: "`supervisorctl doctor` looks for the cause; then `supervisord start` tries again",
    errors.DaemonDied: "`supervisorctl doctor` looks for the cause; then `supervisord start` tries again",
    errors.EvaluationFailed: "`supervisorctl retry` tries again",
    errors.EvaluationRefused: "`supervisorctl status` says what is missing",
}
"""The cure by class, for errors without one of their own; of a class that is not here, that of its nearest base."""


def next_step(program: str, error: SweepError) -> str:
    """Return the cure of an error without one; `program` is the command that was typed."""
    found = next((NEXT[kind] for kind in type(error).__mro__ if kind in NEXT), DOCTOR)
    return found.format(program=program)
