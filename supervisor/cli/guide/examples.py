"""Holds the examples at the end of each verb's --help; a test parses each."""

from __future__ import annotations

from collections.abc import Sequence

EXAMPLES: dict[str, Sequence[str]] = {
    "supervisord": ("supervisord plans", "supervisord start smoke --dry-run", "supervisord start smoke"),
    "supervisord start": (
        "supervisord start smoke --dry-run                # experiments and costs; starts nothing",
        "supervisord start phase6a --only 2M --hours 10",
        "supervisord start my_search.yaml --set max_trials=40",
        "supervisord start smoke --http                   # with a live page",
        "supervisord start smoke --queue                  # after the run at work",
        "supervisord start                                # resume the last run",
        "supervisord start --extend 2M-h1/17=10           # after its end; a trial trains on",
    ),
    "supervisord check": (
        "supervisord check smoke",
        "supervisord check phase6a --only 2M --try       # also train one epoch",
        "supervisord check --accelerator",
    ),
    "supervisord install-service": ("supervisord install-service --dry-run", "supervisord install-service"),
    "supervisord plans": ("supervisord plans",),
    "supervisord data": ("supervisord data list", "supervisord data import SPY.csv --ticker SPY"),
    "supervisord data import": (
        "supervisord data import SPY.csv --ticker SPY",
        "supervisord data import vix.parquet --ticker ^VIX",
    ),
    "supervisord data fetch": ("supervisord data fetch SPY ^VIX",),
    "supervisord data sample": ("supervisord data sample",),
    "supervisord data build": ("supervisord data build SPY --tier s28",),
    "supervisord data list": ("supervisord data list",),
    "supervisord data verify": ("supervisord data verify",),
    "supervisorctl": ("supervisorctl status", "supervisorctl wait", "supervisorctl doctor"),
    "supervisorctl status": (
        "supervisorctl status",
        "supervisorctl status --json | jq '.experiments[].name'",
    ),
    "supervisorctl pause": (
        "supervisorctl pause                              # running trials finish",
        "supervisorctl pause --now --reason 'a call'",
        "supervisorctl pause 2M-h1/17",
    ),
    "supervisorctl resume": (
        "supervisorctl resume 2M-h1/17",
        "supervisorctl resume --for 2h                    # whatever the schedule says",
        "supervisorctl resume --force",
    ),
    "supervisorctl retry": ("supervisorctl retry", "supervisorctl retry 2M-h1"),
    "supervisorctl finish": ("supervisorctl finish", "supervisorctl finish 2M-h1"),
    "supervisorctl end": ("supervisorctl end 17", "supervisorctl end '2M-*/1?'"),
    "supervisorctl discard": ("supervisorctl discard 2M-h1/17",),
    "supervisorctl restore": ("supervisorctl restore 2M-h1/17",),
    "supervisorctl skip": ("supervisorctl skip 20M-h5", "supervisorctl skip '20M-*'"),
    "supervisorctl next": ("supervisorctl next 20M-h5",),
    "supervisorctl set": (
        "supervisorctl set concurrency=2",
        "supervisorctl set '2M-*' max_trials=80 max_hours=12",
    ),
    "supervisorctl reread": (
        "supervisorctl reread                             # changes nothing",
        "supervisorctl reread --apply",
    ),
    "supervisorctl enqueue": ("supervisorctl enqueue 2M-h1 '{learning_rate: 0.001}'",),
    "supervisorctl extend": (
        "supervisorctl extend 2M-h1 --trials 20",
        "supervisorctl extend 2M-h1 --trials 20 --hours 2 # where it has a limit of hours",
        "supervisorctl extend 2M-h1/17 --epochs 10        # a trial that has ended trains on",
    ),
    "supervisorctl queue": (
        "supervisorctl queue",
        "supervisorctl queue move smoke 1",
        "supervisorctl queue remove smoke",
    ),
    "supervisorctl stop": ("supervisorctl stop",),
    "supervisorctl shutdown": ("supervisorctl shutdown",),
    "supervisorctl drill": ("supervisorctl drill heat --for 30s",),
    "supervisorctl tail": (
        "supervisorctl tail -n 50",
        "supervisorctl tail -f --event 'trial.*' --experiment '2M-*'",
        "supervisorctl tail --trial 2M-h1/17 --pretty",
    ),
    "supervisorctl log": ("supervisorctl log 17", "supervisorctl log 2M-h1/17 -f"),
    "supervisorctl wait": ("supervisorctl wait", "supervisorctl wait --timeout 3600"),
    "supervisorctl report": ("supervisorctl report", "supervisorctl report smoke"),
    "supervisorctl trials": (
        "supervisorctl trials 2M-h1 --sort value",
        "supervisorctl trials --state failed --columns trial,state",
    ),
    "supervisorctl best": ("supervisorctl best", "supervisorctl best 2M-h1 --yaml"),
    "supervisorctl export": ("supervisorctl export --csv trials.csv", "supervisorctl export --parquet --results"),
    "supervisorctl history": ("supervisorctl history -n 5",),
    "supervisorctl compare": ("supervisorctl compare smoke phase6a",),
    "supervisorctl predict": ("supervisorctl predict 2M-h1 SPY.csv --days 10",),
    "supervisorctl sensors": (
        "supervisorctl sensors",
        "supervisorctl sensors --record sensors.jsonl --for 5m",
        "supervisorctl sensors --replay sensors.jsonl    # what the governor would do",
    ),
    "supervisorctl dashboard": (
        "supervisorctl dashboard                          # Ray's address, and how to log in",
        "supervisorctl dashboard --token",
        "supervisorctl dashboard --optuna --port 8090",
    ),
    "supervisorctl doctor": (
        "supervisorctl doctor",
        "supervisorctl doctor --json",
        "supervisorctl doctor --bundle report.tar.gz     # for a bug report",
    ),
    "supervisorctl notify": ("supervisorctl notify test",),
    "supervisorctl backup": ("supervisorctl backup copy.db",),
    "supervisorctl gc": ("supervisorctl gc", "supervisorctl gc --all --yes"),
    "supervisorctl rm": ("supervisorctl rm smoke-20261130-101500",),
    "supervisorctl repair": ("supervisorctl repair", "supervisorctl repair --apply"),
    "supervisorctl audit": ("supervisorctl audit", "supervisorctl audit smoke --json"),
    "supervisorctl completion": ("supervisorctl completion bash > sweep-completion.bash",),
    "supervisorctl names": ("supervisorctl names experiments", "supervisorctl names runs"),
    "supervisorctl version": ("supervisorctl version",),
}  # fmt: skip
"""By the words of the command: what stands in `prog` of its parser."""


def examples_of(prog: str) -> Sequence[str]:
    """Return the command lines that show how `prog` is used; () for one without."""
    return EXAMPLES.get(prog, ())
