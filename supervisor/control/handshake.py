"""The handshake between a starting daemon and the `start` that waits for it. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from supervisor.errors import SweepError, UsageError

ANY_PORT, NO_PAGE = "auto", "off"
"""The two wishes for the live page that name no port: where it was last, else any free one; and no page."""
MAX_PORT = 65535


def page_wish(text: str) -> str:
    """Return `text` if it is a port from 1 to MAX_PORT, ANY_PORT or NO_PAGE. Raises UsageError for anything else."""
    port = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not (1 <= port <= MAX_PORT or text in (ANY_PORT, NO_PAGE)):
        raise UsageError(
            f"expected a port from 1 to {MAX_PORT}, {ANY_PORT} or {NO_PAGE} for the live page, found {text!r:.100}",
            remedy="write --http after the plan, or --http=PORT",
        )
    return text


@dataclass(frozen=True)
class StartRequest:
    """Asks the daemon for a run of a resolved plan; `plan` None asks for the newest unfinished run of any plan."""

    plan: str | None
    fingerprint: str = ""
    source: str = "built-in"
    """The path of the plan file, or built-in."""
    plan_text: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    specs: list[dict[str, Any]] = field(default_factory=list)
    new: bool = False
    """Give up an unfinished run of this plan and begin another."""
    by_service: bool = False
    """A service manager started the daemon, not a person: then a crash loop ends (crash_loop)."""
    resume: bool = False
    """Go on with the plan's unfinished run also when the plan was edited: the run keeps its own copy."""
    extend: dict[str, int] = field(default_factory=dict)
    """Go on with the last run (of the plan, where one is named), and give these experiments so many trials more, or
    these trials (EXPERIMENT/NUMBER) so many epochs."""
    anew: bool = False
    """Train the trials of `extend` from epoch 0, not from their newest checkpoints."""
    queued: dict[str, Any] | None = None
    """The queue's entry of this request (id, who, queued_wall); None for one that was typed just now."""
    retry: bool = False
    """Go on with the last run (of the plan, where one is named), ended or not, and retry what failed in it."""
    http: str | None = None
    """A port for the live page, ANY_PORT or NO_PAGE; None leaves it as it was in this run."""


class Readiness:
    """Answers the waiting `start` over its pipe, once: with the daemon's facts or with the error."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def send(self, facts: dict[str, Any]) -> None:
        """Send the facts and close the pipe; a `start` that has gone is no error."""
        if self._fd is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, json.dumps(facts).encode() + b"\n")
        os.close(self._fd)
        self._fd = None

    def fail(self, error: SweepError) -> int:
        """Send the error; return its exit code."""
        kind = type(error).__name__
        self.send({"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code, "kind": kind})
        return error.exit_code
