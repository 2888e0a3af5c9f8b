"""Test the end of a daemon: what is recorded before anything that may hang."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.daemon.daemon import Daemon
from tests.unit.daemon.orchestrator_stage import Stage


async def done(*_: object, **__: object) -> None:
    """Do no work."""


def daemon_of(stage: Stage, **parts: object) -> Daemon:
    """A daemon that was asked to stop, and whose work has ended."""
    quiet = SimpleNamespace(run=done, close=done, send=lambda **_: None, first=lambda: None)
    mostly = dict.fromkeys(Daemon.__dataclass_fields__, quiet)
    stopped = SimpleNamespace(stop=SimpleNamespace(reason="SIGTERM"))
    return Daemon(**{**mostly, "writer": stage.writer, "orchestrator": stopped, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize("dead", ["notifier", "dead_man"])
def test_the_record_of_the_stop_is_there_while_a_service_hangs(tmp_path: Path, dead: str) -> None:
    stage = Stage(tmp_path)

    async def life() -> None:
        asked = asyncio.Event()

        async def hang(**_: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        def service(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
            return hang if name == dead else done

        notifier = SimpleNamespace(send_last=service("notifier"))
        dead_man = SimpleNamespace(end=service("dead_man"))
        ending = asyncio.create_task(daemon_of(stage, notifier=notifier, dead_man=dead_man).live(SimpleNamespace()))  # type: ignore[arg-type]
        await asked.wait()
        assert stage.facts("daemon.stopped") == [{"reason": "SIGTERM"}]
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending

    asyncio.run(life())
