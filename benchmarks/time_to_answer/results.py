"""Keep searches in a file of JSON lines, so that a long measurement can be interrupted and goes on later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.time_to_answer.problem import Settings
from benchmarks.time_to_answer.reach import Measured


def read(file: Path, settings: Settings) -> list[Measured]:
    """Return the searches in `file`, one for each seed and contender; none without a file.

    A last line without its end was interrupted and does not count. Raises SystemExit for results of other settings.
    """
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found: dict[tuple[int, str], Measured] = {}
    for line in lines:
        if not line.endswith("\n"):
            continue
        kept = json.loads(line)
        if kept["settings"] != asdict(settings):
            raise SystemExit(
                f"{file}: expected results of {asdict(settings)}, found {kept['settings']}; name another --results"
            )
        one = Measured.from_json(kept["measured"])
        found.setdefault((one.seed, one.contender), one)
    return list(found.values())


def add(file: Path, settings: Settings, measured: Measured, about: Mapping[str, Any]) -> None:
    """Append a search, with what it ran on (`about`)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text() if file.exists() else ""
    if text and not text.endswith("\n"):
        # The line that an interruption left: whole lines stay.
        file.write_text(text[: text.rfind("\n") + 1])
    line = {"settings": asdict(settings), "about": dict(about), "measured": measured.as_json()}
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def about_of(file: Path) -> list[str]:
    """Return the different machines of a file's results, each with its versions and commit, and how busy they were."""
    lines = [json.loads(line)["about"] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    busy = f"before a search at most {max(one['busy_before'] for one in lines):.0%} of the cores were busy"
    return [*dict.fromkeys(one["machine"] for one in lines), busy]
