"""Names the next command to type after an error whose own cure names none."""

from __future__ import annotations

from supervisor import errors
from supervisor.errors import SweepError

DOCTOR = "`supervisorctl doctor` looks for the cause"
NEXT: dict[type[SweepError], str] = {
    errors.UsageError: "`{typed} --help` has examples",
    errors.PlanError: "`supervisord check PLAN` reads it again",
    errors.UnknownPlan: "`supervisord plans` lists the built-in ones",
    errors.NotFound: "`supervisorctl status` names the experiments, `supervisorctl history` the runs",
    errors.Conflict: "`supervisorctl status` shows the present state",
    errors.Refused: "`supervisorctl status` shows the present state",
    errors.AlreadyRunning: "`supervisorctl status` shows whether it answers",
    errors.NotPermitted: "`supervisorctl doctor` shows which user owns the files; set SWEEP_HOME to a folder of yours",
    errors.VersionSkew: "`supervisorctl shutdown`, then `supervisord start`",
    errors.DiskFull: "`supervisorctl gc` lists what may go",
    errors.PlanChanged: "`supervisord start PLAN --new` begins a run with the plan as it is now",
    errors.RayStartFailed: "`supervisorctl doctor` looks for the cause; then `supervisord start` tries again",
    errors.DaemonDied: "`supervisorctl doctor` looks for the cause; then `supervisord start` tries again",
    errors.StoreTooNew: "`supervisorctl version` names this version and its home",
    errors.StoreTooOld: "`supervisorctl version` names this version and its home",
    errors.EvaluationFailed: "`supervisorctl retry` tries again",
    errors.EvaluationRefused: "`supervisorctl status` says what is missing",
    errors.NotSent: "`supervisorctl notify test` tries again",
}
"""The next command by class; of a class that is not here, that of its nearest base."""


def cure_of(error: SweepError, typed: str) -> str:
    """Return the error's own cure, with the next command where it names none.

    `typed` is the command and the verb that was typed. A command stands in backquotes.
    """
    found = next((NEXT[kind] for kind in type(error).__mro__ if kind in NEXT), DOCTOR)
    return with_command(error.remedy, found.format(typed=typed))


def with_command(cure: str | None, command: str) -> str:
    """Return `cure`, with `command` at its end where no command stands in it."""
    if not cure:
        return command
    return cure if "`" in cure else f"{cure}{' ' if cure[-1] in '.?!' else '; '}{command}"
