"""Lists the exit code of each verb in each situation; docs/commands.md and its test are made from it.

`python -m supervisor.cli.guide.exit_codes` prints the tables of docs/commands.md. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

MEANINGS = (
    (0, "all", "done"),
    (0, "`wait`", "every experiment ended with its answer, or was skipped for a stated reason, and no trial failed"),
    (1, "`wait`", "an experiment failed, the run has not ended, or `--timeout` is over"),
    (1, "`check`, `doctor`, `audit`, `repair`, `data verify`", "a problem was found, and printed"),
    (3, "`wait`, the daemon", (
        "the run has ended and lacks something: a finalisation or a test has no result, or trials failed (error, oom,"
        " hung; one that diverged is a result of the search). `--retry` tries again"
    )),
    (4, "`status`", "no daemon is running"),
    (130, "all", "Ctrl-C (`status --watch` ends with 0, as by q)"),
)  # fmt: skip
"""Code, verb and meaning of the codes that no error has."""
RUN_ENDS = {"passed": 0, "failed": 1, "incomplete": 3, "unfinished": 1, "timeout": 1}
"""Gives `wait` a code for each end of the run, and for its --timeout."""


@dataclass(frozen=True)
class Codes:
    """Holds the exit codes of a verb by situation; None where the verb does not come into it.

    The situations of the daemon (`no_run` to `foreign`) are all None for a verb that asks no daemon and reads no run.
    """

    done: int = 0
    found: int | None = None
    misused: int = 2
    unknown: int | None = None
    refused: int | None = None
    no_run: int | None = None
    no_daemon: int | None = None
    late: int | None = None
    not_permitted: int | None = None
    foreign: int | None = None


SITUATIONS = {
    "done": ("done", "It did what it was asked to do."),
    "found": ("problem", "A problem was found, and printed."),
    "misused": ("usage", "An argument is unknown, missing or not valid."),
    "unknown": ("name", "No run, experiment, trial, plan, file or ticker has that name."),
    "refused": ("state", "The present state does not allow it."),
    "no_run": ("no run", "No daemon is running, and the home has no run yet."),
    "no_daemon": ("no daemon", "No daemon is running; the last run has ended."),
    "late": ("late", "The daemon does not answer in time."),
    "not_permitted": ("owner", "The socket is another user's, or the daemon refuses this user."),
    "foreign": ("other", "Another program, or a daemon of another version, answers."),
}
"""Heading and meaning of each situation in docs/commands.md."""

_STEER = Codes(unknown=2, refused=1, no_run=7, no_daemon=7, late=1, not_permitted=4, foreign=5)
_STEER_ALL = Codes(refused=1, no_run=7, no_daemon=7, late=1, not_permitted=4, foreign=5)
_LOOK = Codes(unknown=2, no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5)
_LOOK_ALL = Codes(no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5)
_ALONE = Codes()

SUPERVISORD: Mapping[str, Codes] = {
    "start": Codes(unknown=6, refused=1, no_run=2, no_daemon=2, late=1, not_permitted=4, foreign=5),
    "check": Codes(found=1, unknown=6),
    "install-service": Codes(refused=1),
    "plans": _ALONE,
    "data import": Codes(unknown=1, refused=1),
    "data fetch": Codes(unknown=1),
    "data sample": _ALONE,
    "data build": Codes(unknown=1),
    "data list": _ALONE,
    "data verify": Codes(found=1),
}
SUPERVISORCTL: Mapping[str, Codes] = {
    "status": Codes(no_run=4, no_daemon=4, late=1, not_permitted=4, foreign=5),
    "pause": _STEER,
    "resume": _STEER,
    "retry": _STEER,
    "finish": _STEER,
    "end": _STEER,
    "discard": _STEER,
    "restore": _STEER,
    "skip": _STEER,
    "next": _STEER,
    "set": _STEER,
    "reread": Codes(refused=1, no_run=7, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "enqueue": _STEER,
    "extend": _STEER,
    "queue": Codes(unknown=2, no_run=0, no_daemon=0, late=0, not_permitted=0, foreign=0),
    "stop": _STEER_ALL,
    "shutdown": _STEER_ALL,
    "drill": _STEER,
    "tail": _LOOK,
    "log": _LOOK,
    "wait": _LOOK_ALL,
    "report": _LOOK,
    "trials": _LOOK,
    "best": _LOOK,
    "export": _LOOK,
    "history": _LOOK_ALL,
    "compare": _LOOK,
    "predict": Codes(unknown=2, refused=1, no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "sensors": _ALONE,
    "dashboard": Codes(unknown=2, no_run=7, no_daemon=7, late=1, not_permitted=4, foreign=5),
    "doctor": Codes(found=1, no_run=0, no_daemon=0, late=1, not_permitted=1, foreign=1),
    "notify": Codes(unknown=2, refused=1),
    "backup": Codes(no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "gc": Codes(no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "rm": Codes(unknown=2, refused=1, no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "repair": Codes(found=1, refused=1, no_run=2, no_daemon=0, late=1, not_permitted=1, foreign=1),
    "audit": Codes(found=1, unknown=2, no_run=2, no_daemon=0, late=1, not_permitted=4, foreign=5),
    "completion": _ALONE,
    "names": Codes(no_run=0, no_daemon=0, late=0, not_permitted=0, foreign=0),
    "version": _ALONE,
}


def render_markdown() -> str:
    """Return the tables of the section on exit codes in docs/commands.md."""
    return "\n\n".join("\n".join(lines) for lines in (_meanings(), _situations(), _verbs())) + "\n"


def _meanings() -> Iterator[str]:
    yield "| code | verb | meaning |"
    yield "|---:|---|---|"
    yield from (f"| {code} | {verb} | {meaning} |" for code, verb, meaning in MEANINGS)


def _situations() -> Iterator[str]:
    yield "| situation | meaning |"
    yield "|---|---|"
    yield from (f"| {heading} | {meaning} |" for heading, meaning in SITUATIONS.values())


def _verbs() -> Iterator[str]:
    """Yield a row for all verbs of a command that have the same codes."""
    yield f"| verbs | {' | '.join(heading for heading, _ in SITUATIONS.values())} |"
    yield f"|---|{'---:|' * len(SITUATIONS)}"
    for command, table in (("supervisord", SUPERVISORD), ("supervisorctl", SUPERVISORCTL)):
        alike: dict[Codes, list[str]] = {}
        for verb, codes in table.items():
            alike.setdefault(codes, []).append(f"`{verb}`")
        for codes, verbs in alike.items():
            values = [getattr(codes, field.name) for field in fields(codes)]
            cells = ("" if value is None else str(value) for value in values)
            yield f"| {command} {', '.join(verbs)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print(render_markdown(), end="")
