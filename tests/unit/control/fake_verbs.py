"""Replaces the daemon's verbs in tests of API, server and client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supervisor.errors import DiskFailed


class FakeVerbs:
    """Records its calls; raises `trouble` instead of an answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.trouble: Exception | None = None

    @property
    def steering(self) -> FakeVerbs:
        return self

    def _answer(self, *call: Any) -> dict[str, Any]:
        self.calls.append(call)
        if self.trouble is not None:
            raise self.trouble
        return {"verb": call[0]}

    def status(self, trials: bool) -> dict[str, Any]:
        return self._answer("status", trials)

    async def pause(
        self, target: str | None, now: bool, reason: str, who: str, node: str | None = None
    ) -> dict[str, Any]:
        return self._answer("pause", target, now, reason, who, node)

    async def resume(
        self, target: str | None, who: str, node: str | None = None, force: bool = False, for_s: float | None = None
    ) -> dict[str, Any]:
        return self._answer("resume", target, who, node, force, for_s)

    async def retry(self, target: str | None, who: str) -> dict[str, Any]:
        return self._answer("retry", target, who)

    async def finish(self, target: str | None, who: str) -> dict[str, Any]:
        return self._answer("finish", target, who)

    async def end(self, targets: list[str], who: str) -> dict[str, Any]:
        return self._answer("end", targets, who)

    async def skip(self, targets: list[str], who: str) -> dict[str, Any]:
        return self._answer("skip", targets, who)

    async def discard(self, targets: list[str], restore: bool, who: str) -> dict[str, Any]:
        return self._answer("discard", targets, restore, who)

    async def put_next(self, targets: list[str], who: str) -> dict[str, Any]:
        return self._answer("next", targets, who)

    async def change(self, targets: list[str], sets: list[str], who: str) -> dict[str, Any]:
        return self._answer("set", targets, sets, who)

    async def reread(self, apply: bool, who: str) -> dict[str, Any]:
        return self._answer("reread", apply, who)

    async def enqueue(self, targets: list[str], text: str, who: str) -> dict[str, Any]:
        return self._answer("enqueue", targets, text, who)

    async def extend(self, targets: list[str], trials: int, hours: float, who: str) -> dict[str, Any]:
        return self._answer("extend", targets, trials, hours, who)

    async def extend_trials(self, targets: list[str], epochs: int, anew: bool, who: str) -> dict[str, Any]:
        return self._answer("extend_trials", targets, epochs, anew, who)

    async def stop(self, who: str) -> dict[str, Any]:
        return self._answer("stop", who)

    async def shutdown(self, who: str) -> dict[str, Any]:
        return self._answer("shutdown", who)

    async def drill(self, name: str, duration_s: float, node: str | None) -> dict[str, Any]:
        return self._answer("drill", name, duration_s, node)

    def disk_failed(self, error: DiskFailed) -> None:
        self._answer("disk_failed", error)

    async def page(self, http: str) -> dict[str, Any]:
        return self._answer("page", http)

    async def metrics(self) -> str:
        return f"# {self._answer('metrics')}"

    def runs(self) -> dict[str, Any]:
        return self._answer("runs")

    def history(self, last: int) -> dict[str, Any]:
        return self._answer("history", last)

    def run(self, run: str | None, trials: bool) -> dict[str, Any]:
        return self._answer("run", run, trials)

    async def remove(self, run: str, who: str) -> dict[str, Any]:
        return self._answer("remove", run, who)

    async def backup(self, path: Path, who: str) -> dict[str, Any]:
        return self._answer("backup", path, who)
