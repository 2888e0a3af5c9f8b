"""Stand for the daemon that the command line asks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from supervisor.home import Home


class FakeDaemon:
    """Stands for `ask` of a module of verbs: records each request and gives canned answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, verbs: ModuleType, **answers: dict[str, Any]) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers = answers
        monkeypatch.setattr(verbs, "ask", self._ask)

    def _ask(self, home: Home, verb: str, body: Any = None, *, query: str = "") -> dict[str, Any]:
        self.asked.append((verb, body))
        return self._answers.get(verb, {})
