"""Tells whether the file of a run's plan has changed since the run began, and in which keys.

The run itself keeps its own copy of the plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.errors import SweepError

MAX_CHANGES = 20


@dataclass(frozen=True)
class Reread:
    """The result of reading a plan's file again. With an `error` it is no plan any more, and nothing else is known."""

    sha256: str | None
    changes: tuple[str, ...] = ()
    """Such as "config.lr: 0.1 -> 0.2", the first MAX_CHANGES."""
    error: str | None = None


class PlanSource:
    """The file of one run's plan: `path` is None for a built-in plan, `sha256` is the file's when the run began."""

    def __init__(self, path: Path | None, sha256: str | None) -> None:
        self.path, self.sha256 = path, sha256
        self._seen: tuple[int, int, str] | None = None

    def take_over(self, sha256: str) -> None:
        """Note that the run has taken over the file of this hash."""
        self.sha256 = sha256

    def changed(self) -> bool | None:
        """Tell whether the file differs from the one that the run began with; None if unknown."""
        now = self._hash_now()
        return None if self.sha256 is None or now is None else now != self.sha256

    def view(self) -> dict[str, Any] | None:
        """Return the values for `status`; None for a built-in plan."""
        if self.path is None:
            return None
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "sha256_now": self._hash_now(),
            "changed": self.changed(),
        }

    def _hash_now(self) -> str | None:
        """Hash the file, again only when its size or time has changed: `status` asks often."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
            if self._seen is None or self._seen[:2] != (found.st_mtime_ns, found.st_size):
                self._seen = (found.st_mtime_ns, found.st_size, sha256_of(self.path))
        except (OSError, SweepError):
            return None
        return self._seen[2]

    def reread(self, frozen_text: str) -> Reread:
        """Compare the file as it is now with `frozen_text`, the run's own copy of its plan."""
        from supervisor.plan import yaml_reader
        from supervisor.plan.loader import load_plan

        assert self.path is not None
        try:
            before = yaml_reader.parse(frozen_text, "the run's copy").value
            after = yaml_reader.parse(load_plan(self.path).text, str(self.path)).value
        except SweepError as error:
            return Reread(self._hash_now(), error=error.message)
        return Reread(self._hash_now(), tuple(differences(before, after)[:MAX_CHANGES]))


def sha256_of(path: Path) -> str:
    """Hash the file at `path`. Raises OSError, or PlanError for a file that is too large to be a plan."""
    from supervisor.plan.yaml_reader import read

    return hashlib.sha256(read(path)).hexdigest()


def differences(before: Any, after: Any) -> list[str]:
    """List each value that differs, by its dotted key."""
    left, right = dict(_flat(before, "")), dict(_flat(after, ""))
    return [
        f"{key}: {_short(left.get(key, 'absent'))} -> {_short(right.get(key, 'absent'))}"
        for key in dict.fromkeys([*left, *right])
        if left.get(key, "absent") != right.get(key, "absent")
    ]


def _flat(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{where}.{key}" if where else str(key))
    else:
        yield where, value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
