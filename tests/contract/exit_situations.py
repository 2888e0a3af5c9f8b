"""Type a verb in each situation of supervisor.cli.guide.exit_codes, and make first what the situation needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supervisor.cli import dashboard, data, news, start
from supervisor.cli.doctor import examine, live
from supervisor.cli.service_files import service_file
from supervisor.cli.show import forecast
from supervisor.preflight import start as start_checks
from supervisor.preflight.machine import Check, Level, ok
from supervisor.preflight.timing import Times
from supervisor.report import process
from supervisor.sensors import survey
from tests.contract.exit_stage import Stage, conflict, from_another, late, not_found

BARS = Path(__file__).resolve().parents[1] / "unit" / "data" / "bars.csv"
ARGUMENTS: Mapping[str, list[str]] = {
    "end": ["1"], "discard": ["1"], "restore": ["1"], "skip": ["2M-h1"], "next": ["2M-h1"], "set": ["concurrency=1"],
    "enqueue": ["2M-h1", "{lr: 0.1}"], "extend": ["2M-h1", "--trials", "1"], "drill": ["heat"], "log": ["2M-h1/0"],
    "export": ["--csv"], "compare": ["smoke-1", "smoke-1"], "predict": ["20k-h1", "bars.csv", "--json"],
    "backup": ["copy.db"], "rm": ["smoke-1", "--yes"], "completion": ["bash"], "names": ["runs"],
    "check": ["mine.yaml"], "data import": [str(BARS), "--ticker", "ABC", "--calendar", "none"], "data fetch": ["ABC"],
    "data build": ["ABC"],
}  # fmt: skip
"""The arguments with which a verb can do what it is asked to do."""
UNKNOWN: Mapping[str, list[str]] = {
    "start": ["no-such-plan"], "check": ["no-such-plan"], "data import": ["no-such-file.csv", "--ticker", "ABC"],
    "queue": ["remove", "no-such-plan"], "tail": ["no-such-plan"], "log": ["20M-h1/0"], "report": ["no-such-run"],
    "trials": ["20M-h1"], "best": ["20M-h1"], "export": ["--csv", "--experiment", "20M-h1"],
    "predict": ["20M-h1", "bars.csv"], "rm": ["no-such-run"], "audit": ["no-such-run"],
    "dashboard": ["--optuna", "no-such-run"],
}  # fmt: skip
"""The arguments with a name that there is not."""
FOUND_BY_DAEMON = ("pause", "resume", "retry", "finish", "end", "discard", "restore", "skip", "next", "set", "enqueue",
                   "extend", "drill", "compare", "dashboard")  # fmt: skip
"""The verbs whose names the daemon looks for, not the command."""


def typed(stage: Stage, command: str, verb: str, arguments: list[str] | None = None) -> int:
    return stage.type(command, *verb.split(), *(ARGUMENTS.get(verb, []) if arguments is None else arguments))


def put_run(stage: Stage, verb: str) -> None:
    """Put a run into the home; some verbs need one of the built-in search, with all that it keeps."""
    if verb in ("predict", "trials", "export"):
        stage.put_tested_runs()
    elif verb == "reread":
        stage.put_run_of_a_file()
    else:
        stage.put_run()


# What a verb needs to end well, and in a moment


def make_quick(stage: Stage, verb: str) -> None:
    """Replace the parts of a verb that take long, or depend on this machine."""
    if verb in QUICK:
        QUICK[verb](stage)


def _check(stage: Stage) -> None:
    stage.put_plan()
    stage.patch.setattr(start, "_timed", lambda *_: Times(()))
    stage.patch.setattr(start, "_check_trainable", lambda *_: ok("trainable", "it is good"))
    stage.patch.setattr(start_checks, "run_checks", lambda *_: [])
    for name in ("check_accelerator", "check_temperature", "check_script"):
        stage.patch.setattr(start_checks, name, lambda *_: ok("a check", "it is good"))


def _without_dataset(stage: Stage) -> None:
    stage.patch.setattr(data, "_build_if_shares", lambda *_: None)


def _fetch(stage: Stage) -> None:
    from training.data import imports

    stage.patch.setattr(imports, "import_fetched", lambda *_, **__: None)
    stage.patch.setattr(data, "_say_imported", lambda *_: None)
    stage.patch.setattr(data, "_build_if_shares", lambda *_: None)


def _predict(stage: Stage) -> None:
    stage.patch.setattr(forecast, "request_of", lambda *_: {"trials": []})
    stage.patch.setattr(forecast, "_ask", lambda _: {})


def _notify(stage: Stage, problem: str | None = None) -> None:
    async def send(_: Any) -> list[str | None]:
        return [problem]

    stage.home.state.mkdir(exist_ok=True)
    stage.home.notify.write_text("json://localhost\n")
    stage.home.notify.chmod(0o600)
    stage.patch.setattr(news, "_send", send)


QUICK: Mapping[str, Callable[[Stage], object]] = {
    "check": _check,
    "data import": _without_dataset,
    "data sample": _without_dataset,
    "data fetch": _fetch,
    "data build": lambda stage: typed(stage, "supervisord", "data import"),
    "predict": _predict,
    "report": lambda stage: stage.patch.setattr(process, "write_report_now", lambda _, folder: folder),
    "sensors": lambda stage: stage.patch.setattr(
        survey, "collect", lambda _: {"readings": [], "protected": True, "providers": []}
    ),
    "doctor": lambda stage: stage.patch.setattr(
        examine, "steps", lambda home: (("daemon", lambda: live.check_daemon(home)),)
    ),
    "notify": _notify,
}


# The situations


def done(stage: Stage, command: str, verb: str) -> int:
    put_run(stage, verb)
    make_quick(stage, verb)
    if verb != "repair":  # which needs a home without a daemon
        stage.live()
    return typed(stage, command, verb)


def found(stage: Stage, command: str, verb: str) -> int:
    """Type a verb where something is wrong: a check, a file that is not registered, a log without its end."""
    stage.put_run()
    make_quick(stage, verb)
    bad = Check("a check", Level.ERROR, "it is bad")
    stage.patch.setattr(start_checks, "run_checks", lambda *_: [bad])
    stage.patch.setattr(examine, "steps", lambda _: (("a check", lambda: bad),))
    stranger, log = stage.home.data / "raw" / "stranger.parquet", stage.home.audit_log("smoke")
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    return typed(stage, command, verb)


def misused(stage: Stage, command: str, verb: str) -> int:
    return typed(stage, command, verb, [*ARGUMENTS.get(verb, []), "--no-such-option"])


def unknown(stage: Stage, command: str, verb: str) -> int:
    """Type a verb with a name that there is not; `notify` has no address then."""
    put_run(stage, verb)
    stage.patch.setattr(dashboard, "optuna_program", lambda: "optuna-dashboard")
    if command == "supervisorctl" and verb != "rm":
        stage.live(not_found if verb in FOUND_BY_DAEMON else None)
    return typed(stage, command, verb, UNKNOWN.get(verb))


def refused(stage: Stage, command: str, verb: str) -> int:
    if verb in REFUSED:
        return typed(stage, command, verb, REFUSED[verb](stage))
    stage.put_run()
    stage.live(conflict)
    return typed(stage, command, verb)


def _another_unit(stage: Stage) -> None:
    file = service_file(stage.home).path
    file.parent.mkdir(parents=True)
    file.write_text("of another program")


def _bad_bars(stage: Stage) -> list[str]:
    (stage.root / "bad.csv").write_text("date,close\nsoon,1\n")
    return ["bad.csv", "--ticker", "ABC"]


def _unfinished(stage: Stage, *arguments: str) -> list[str]:
    stage.put_tested_runs()
    return [*arguments]


def _nothing_to_retry(stage: Stage) -> list[str]:
    """Let the daemon at work say that nothing of its run has failed."""
    stage.put_run()
    stage.live(lambda: conflict() if stage.asked[-1] == "retry" else (200, stage.status()))
    return ["--retry"]


REFUSED: Mapping[str, Callable[[Stage], list[str] | None]] = {
    "install-service": _another_unit,
    "data import": _bad_bars,
    "notify": lambda stage: _notify(stage, "no such host"),
    "predict": lambda stage: _unfinished(stage, "60k-h1", "bars.csv"),
    "rm": lambda stage: _unfinished(stage, "mini-1", "--yes"),
    "start": _nothing_to_retry,
}
"""The verbs that are refused on this side: what is there before, and the arguments if not the usual ones."""


def no_run(stage: Stage, command: str, verb: str) -> int:
    make_quick(stage, verb)
    return typed(stage, command, verb)


def no_daemon(stage: Stage, command: str, verb: str) -> int:
    put_run(stage, verb)
    make_quick(stage, verb)
    return typed(stage, command, verb)


def too_late(stage: Stage, command: str, verb: str) -> int:
    put_run(stage, verb)
    make_quick(stage, verb)
    stage.live(late)
    # A daemon that is late is waited for, unless one says for how long.
    return typed(stage, command, verb, ["--timeout", "0"] if verb == "wait" else None)


def not_permitted(stage: Stage, command: str, verb: str) -> int:
    put_run(stage, verb)
    make_quick(stage, verb)
    stage.hold()
    stage.occupy_socket()
    return typed(stage, command, verb)


def foreign(stage: Stage, command: str, verb: str) -> int:
    """Type a verb to another program, then to a daemon of another version: both end with one code."""
    put_run(stage, verb)
    make_quick(stage, verb)
    stage.live(from_another(stage.home, None))
    code = typed(stage, command, verb)
    stage.trouble = from_another(stage.home, "0")
    assert typed(stage, command, verb) == code
    return code


TYPED: Mapping[str, Callable[[Stage, str, str], int]] = {
    "done": done, "found": found, "misused": misused, "unknown": unknown, "refused": refused, "no_run": no_run,
    "no_daemon": no_daemon, "late": too_late, "not_permitted": not_permitted, "foreign": foreign,
}  # fmt: skip
