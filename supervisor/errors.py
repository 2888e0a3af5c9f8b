"""The one tree of errors. A class knows its exit code and its remedy; an instance carries the facts.

Exit codes follow the Linux Standard Base for init scripts (LSB 5.0, "Init Script Actions"): 1 generic,
2 bad arguments, 4 insufficient privileges or unknown state, 5 not installed (or not the program you think),
6 not configured, 7 not running.
"""

from __future__ import annotations

import errno

NOT_WORTH_A_RETRY = (2, 4, 5, 6)
"""Exit codes after which a service manager's next start would end in the same way."""


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

    def render(self) -> str:
        """What a person reads: the fact, then the cure on a line of its own."""
        return self.message if self.remedy is None else f"{self.message}\n  cure: {self.remedy}"


class UsageError(SweepError):
    """The command line does not make sense."""

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
    """There is no plan of that name."""


class DataMissing(SweepError):
    """The data that the plan needs are not there."""

    exit_code = 6
    remedy = "import a file with `supervisord data import FILE --ticker NAME`, or use the embedded sample"


class NotOurs(SweepError):
    """Another program owns this name."""

    exit_code = 5


class VersionSkew(SweepError):
    """The daemon that answers is of another version than this command."""

    exit_code = 5
    remedy = "stop the daemon with the version that started it, then start it with this one"


class NotRunning(SweepError):
    """No supervisor daemon is running for this home."""

    exit_code = 7
    remedy = "start one with `supervisord start PLAN`"


class SlowAnswer(SweepError):
    """The daemon did not answer in time."""


class AlreadyRunning(SweepError):
    """A supervisor daemon already works on another plan in this home."""

    exit_code = 1
    remedy = "wait for it, stop it with `supervisorctl shutdown`, or give the second one its own SWEEP_HOME"


class HomeHeld(SweepError):
    """A process that a dead daemon left behind holds this home's lock."""


class NotPermitted(SweepError):
    """This user may not do that."""

    exit_code = 4


class NotFound(SweepError):
    """There is no such run, experiment or trial."""

    exit_code = 2


class Conflict(SweepError):
    """That cannot be done in the present state."""


class DaemonDied(SweepError):
    """The daemon died before it was ready."""


class CrashLoop(SweepError):
    """The daemon died again and again before anything got done."""

    exit_code = 6
    remedy = "look into logs/daemon.log; `supervisord start` by hand tries again"


class DiskFull(SweepError):
    """Too little disk space is free."""

    remedy = "free some space, or put SWEEP_HOME on a larger disk"


class StoreLocked(DiskFull):
    """Another program holds the state database: like a full disk, it passes, and until then nothing can be kept."""

    remedy = "end what copies or opens it (`fuser state/sweep.db`); copies are made by `supervisorctl backup`"


class SystemRefused(SweepError):
    """The operating system refused."""

    @classmethod
    def because(cls, error: OSError) -> SweepError:
        """The operating system's no as an error of ours: what, where, and the cure where one is known."""
        if error.errno == errno.ENOSPC:
            return DiskFull(f"no space is left: {error.filename or error}")
        where = f"{error.filename}: " if error.filename else ""
        return cls(f"{where}{error.strerror or error}", remedy="check that path's owner, mode and kind")


class UnsafeFolder(SweepError):
    """A folder of ours is not safe to use."""

    exit_code = 4


class UnsafeFile(SweepError):
    """A file of ours is not safe to use."""

    exit_code = 4


class StoreError(SweepError):
    """The state database cannot be used."""


class StoreDamaged(StoreError):
    """The state database is damaged."""

    remedy = "`supervisord start` rebuilds it from the logs; `supervisorctl repair` shows what it would do"


class LogDamaged(SweepError):
    """A log of events is damaged in its middle."""

    remedy = "`supervisorctl repair` shows the choices; nothing is lost by looking"


class DiskFailed(SweepError):
    """The disk did not keep what it was given."""

    remedy = (
        "what was told as saved before is safe; look at the disk (`dmesg`), then `supervisord start` goes on from it"
    )


class StoreTooNew(StoreError):
    """The state database was written by a newer version."""

    remedy = "upgrade this installation, or give this version its own SWEEP_HOME"


class PlanChanged(SweepError):
    """An unfinished run of this plan has another fingerprint."""


class RayStartFailed(SweepError):
    """Ray did not start."""


class Refused(SweepError):
    """The daemon refused the request."""


class TestRefused(SweepError):
    """The test split of this experiment was opened before."""

    __test__ = False  # the name begins with Test; pytest would collect it
    remedy = "a second look is no test: a new run (`--new`) is searched, and tested, anew"


class EvaluationFailed(SweepError):
    """The test could not be completed."""


class NotSent(SweepError):
    """A message did not reach everybody."""

    remedy = "look at the addresses in state/notify (one of Apprise's a line), and at the network"


class ReportFailed(SweepError):
    """The report could not be written."""

    remedy = "the results are safe in the store; `supervisorctl report` tries again"
