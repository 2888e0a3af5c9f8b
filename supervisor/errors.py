"""Defines the one tree of errors: a class has an exit code and a remedy, an instance has the facts.

The docstring of a class is its default message: a sentence for users.

Exit codes follow the Linux Standard Base for init scripts (LSB 5.0, "Init Script Actions"): 1 generic, 2 bad arguments,
4 insufficient privileges or unknown state, 5 not installed (or another program of the same name), 6 not configured,
7 not running. Ours is 3 (LSB's "unimplemented feature", which no verb of ours is): INCOMPLETE.
"""

from __future__ import annotations

import errno

INCOMPLETE = 3
"""The exit code of a run whose experiments ended well, and that lacks an answer or has failed trials."""
NOT_WORTH_A_RETRY = (2, INCOMPLETE, 4, 5, 6)
"""Exit codes after which a service manager must not try again: the next start would end in the same way."""


class SweepError(Exception):
    """Something went wrong."""

    exit_code: int = 1
    remedy: str | None = None

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        if remedy is not None:
            self.remedy = remedy

    @property
    def message(self) -> str:
        return str(self.args[0])

    def sentence(self) -> str:
        """Return the message and the cure on one line, for a place that has only one."""
        text = self.message if self.remedy is None else f"{self.message}; cure: {self.remedy}"
        return " ".join(text.split())

    def render(self) -> str:
        """Return the message, then the cure on a line of its own."""
        return self.message if self.remedy is None else f"{self.message}\n  cure: {self.remedy}"


class UsageError(SweepError):
    """The command line or the request is not valid."""

    exit_code = 2


class PlanError(SweepError):
    """The plan is not valid."""

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.file, self.line, self.key = file, line, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, message) if part), remedy=remedy)


class UnknownPlan(PlanError):
    """No plan has that name."""


class DataMissing(SweepError):
    """The data that the plan needs are missing."""

    exit_code = 6
    remedy = "import a file with `supervisord data import FILE --ticker NAME`, or use the embedded sample"


class NotOurs(SweepError):
    """Another program has this name."""

    exit_code = 5


class VersionSkew(SweepError):
    """The daemon and this command have different versions."""

    exit_code = 5
    remedy = "stop the daemon with the version that started it, then start it with this one"


class NotRunning(SweepError):
    """No supervisor daemon is running for this home."""

    exit_code = 7
    remedy = "start one with `supervisord start PLAN`, or set SWEEP_HOME to the home of your run"


class SlowAnswer(SweepError):
    """The daemon did not answer in time."""


class AlreadyRunning(SweepError):
    """A supervisor daemon already works on another plan in this home."""

    exit_code = 1
    remedy = "wait for it, stop it with `supervisorctl shutdown`, or give the second one its own SWEEP_HOME"


class HomeHeld(SweepError):
    """A process that a dead daemon left behind holds the lock of this home."""


class NotPermitted(SweepError):
    """This user has no permission for that."""

    exit_code = 4


class NotFound(SweepError):
    """No run, experiment or trial has that name."""

    exit_code = 2


class Conflict(SweepError):
    """The present state does not allow that."""


class DaemonDied(SweepError):
    """The daemon died before it was ready."""


class CrashLoop(SweepError):
    """The daemon crashed several times in a row before it had done any work."""

    exit_code = 6
    remedy = "read logs/daemon.log; then `supervisord start` tries again"


class DiskFull(SweepError):
    """Too little disk space is free."""

    remedy = "free some space, or put SWEEP_HOME on a larger disk"


class StoreLocked(DiskFull):
    """Another program has locked the state database: no result can be stored until it is free."""

    remedy = "end the program that has it open (`fuser state/sweep.db`); `supervisorctl backup` makes copies safely"


class SystemRefused(SweepError):
    """The operating system refused a file operation."""

    @classmethod
    def because(cls, error: OSError) -> SweepError:
        """Return an operating system's error as an error of this tree: fact, place and cure."""
        if error.errno == errno.ENOSPC:
            return DiskFull(f"no space left on the disk: {error.filename or error}")
        where = f"{error.filename}: " if error.filename else ""
        return cls(f"{where}{error.strerror or error}", remedy="check that path's owner, mode and kind")


class UnsafeFolder(SweepError):
    """A folder of this home is not safe to use."""

    exit_code = 4


class UnsafeFile(SweepError):
    """A file of this home is not safe to use."""

    exit_code = 4


class StoreError(SweepError):
    """The state database cannot be used."""


class StoreDamaged(StoreError):
    """The state database is damaged."""

    remedy = "`supervisord start` rebuilds it from the logs; `supervisorctl repair` shows the steps first"


class LogDamaged(SweepError):
    """A log of events is damaged before its last line."""

    remedy = "`supervisorctl repair` shows the damage and the repair, and changes nothing"


class DiskFailed(SweepError):
    """The disk failed to store data that was written to it."""

    remedy = "earlier results are safe; check the disk (`dmesg`), then `supervisord start` resumes the run"


class StoreTooNew(StoreError):
    """The state database was written by a newer version."""

    remedy = "upgrade this installation, or give this version a SWEEP_HOME of its own"


class StoreTooOld(StoreError):
    """The state database was written by an older version."""

    remedy = "finish its run with the version that began it, or begin anew in another SWEEP_HOME"


class PlanChanged(SweepError):
    """An unfinished run of this plan has another fingerprint."""


class RayStartFailed(SweepError):
    """Ray did not start."""


class TrialsFailed(SweepError):
    """All trials of an experiment fail by the same error."""


class Refused(SweepError):
    """The daemon refused the request."""


class TestRefused(SweepError):
    """The test split of this experiment was opened before."""

    __test__ = False  # the name begins with Test; pytest would collect it
    remedy = "a test split is used once per run: `supervisord start PLAN --new` begins a run with a test of its own"


class EvaluationFailed(SweepError):
    """The evaluation on the test split met a fault of the machine; a repeat may succeed."""


class EvaluationRefused(SweepError):
    """The evaluation on the test split cannot be made from what is there."""


class NotSent(SweepError):
    """A message did not reach all its addresses."""

    remedy = "check the addresses in state/notify (one Apprise address a line) and the network"


class WorkerFailed(SweepError):
    """A worker process failed."""

    def __init__(self, problem: str | None = None, *, last_words: str = "", remedy: str | None = None) -> None:
        """`problem` quotes no output of the process; `last_words` is the end of its standard error."""
        super().__init__(f"{problem}: {last_words}" if last_words else problem, remedy=remedy)
        self.problem, self.last_words = self.message if problem is None else problem, last_words


class ReportFailed(SweepError):
    """The report could not be written."""

    remedy = "the results are safe in the store; `supervisorctl report` tries again"


def causes() -> dict[int, list[str]]:
    """Return the default messages of all errors by exit code, for docs/commands.md."""
    found: dict[int, list[str]] = {}
    left = [SweepError]
    while left:
        kind = left.pop(0)
        left += kind.__subclasses__()
        if kind is not SweepError and kind.__module__ == SweepError.__module__:
            found.setdefault(kind.exit_code, []).append((kind.__doc__ or "").strip())
    return dict(sorted(found.items()))


def render_markdown() -> str:
    """Return the rows of the table of errors in docs/commands.md."""
    return "".join(f"| {code} | {' '.join(messages)} |\n" for code, messages in causes().items())


if __name__ == "__main__":
    print(render_markdown(), end="")
