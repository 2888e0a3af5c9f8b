"""Test the end of a daemon: what is recorded before anything that may hang, and who reads a whole run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.daemon import run_end
from supervisor.daemon.daemon import Daemon
from supervisor.daemon.stop_request import StopRequest
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import StoreError
from supervisor.home import Home
from supervisor.page.reader import StoreReader
from supervisor.report import process
from supervisor.store import queries
from supervisor.store.run_writer import RunWriter
from supervisor.store.status_cache import StatusView
from tests.unit.cli.test_commands import finished_run
from tests.unit.daemon.orchestrator_stage import DONE, Stage
from tests.unit.news.post import ADDRESS, HandClock, Service, notifier, write_addresses
from tests.waits import NET_S


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


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[RunWriter]:
    store = finished_run(Home(tmp_path))
    yield RunWriter(store, "smoke-1")
    store.close()


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that have read a whole run."""
    found: list[threading.Thread] = []

    def seen(function: Callable[..., Any]) -> Callable[..., Any]:
        def read(*arguments: Any) -> Any:
            found.append(threading.current_thread())
            return function(*arguments)

        return read

    monkeypatch.setattr(StatusView, "now", seen(StatusView.now))
    monkeypatch.setattr(queries, "run_snapshot", seen(queries.run_snapshot))
    return found


def test_the_exit_code_and_the_report_of_a_run_are_read_beside_the_daemons_loop(
    ended: RunWriter, readers: list[threading.Thread], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []

    async def write(view: dict[str, Any], folder: Path, deadline_s: float) -> Path:
        written.append(view)
        return folder / "report.html"

    monkeypatch.setattr(process, "write_report", write)
    assert asyncio.run(run_end.exit_code(ended)) == 0
    asyncio.run(run_end.report(ended, process.ReportAhead(tmp_path)))
    assert [one["name"] for one in written[0]["experiments"]] == ["2M-h1"]
    assert len(readers) == 2
    assert threading.main_thread() not in readers


def test_the_last_message_of_a_run_is_read_beside_the_daemons_loop(
    ended: RunWriter, readers: list[threading.Thread], tmp_path: Path
) -> None:
    service, file = Service(), write_addresses(tmp_path / "notify", ADDRESS)
    it = notifier(ended, file, service, HandClock())
    with ended.store.change(ended.run_id) as change:
        counts = dict.fromkeys(("failed", "skipped", "incomplete", "failed_trials"), 0)
        change.record("run.finished", seconds=9.0, passed=1, **counts)
    asyncio.run(it.send_last())
    assert "2M-h1 EXITED, 1 of 1 trial" in service.messages[-1][1]
    assert readers
    assert threading.main_thread() not in readers


def test_a_store_that_no_other_connection_reads_still_has_its_exit_code(
    ended: RunWriter, readers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StoreError("it could not be read within 20 s")

    monkeypatch.setattr(StoreReader, "read", refuse)
    assert asyncio.run(run_end.exit_code(ended)) == 0
    assert readers == [threading.main_thread()]


def work(stage: Stage, run: Callable[[StopRequest], object], end_ray: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a daemon do its work: `run` stands for all experiments, `end_ray` for Ray's end."""
    stop = StopRequest()

    async def run_all() -> None:
        run(stop)

    parts = {
        "clock": Clock(),
        "orchestrator": SimpleNamespace(stop=stop, begin=done, run=run_all, end_ray=end_ray),
        "server": SimpleNamespace(open=done),
        "page": SimpleNamespace(begin=done),
        "signals": SimpleNamespace(handle=int),
        "handlers": SimpleNamespace(facts=dict),
        "checkpoints": SimpleNamespace(tidy_up=done),
        "background": (),
        "wake_lock": None,
    }
    stage.writer.recover()
    ready = SimpleNamespace(send=str, fail=str)
    asyncio.run(asyncio.wait_for(daemon_of(stage, **parts)._work(ready, None), NET_S))  # type: ignore[arg-type]


def test_the_report_is_written_while_ray_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, told, written = Stage(tmp_path), [], asyncio.Event()

    async def report(*_: object) -> None:
        told.append("the report")
        written.set()

    async def end_ray() -> None:
        await written.wait()
        told.append("Ray's end")

    monkeypatch.setattr(run_end, "report", report)
    work(stage, lambda stop: None, end_ray)
    assert told == ["the report", "Ray's end"]
    assert stage.writer.run_state() is ProcessState.EXITED


def test_a_run_is_stopped_only_when_ray_has_ended(tmp_path: Path) -> None:
    stage, states = Stage(tmp_path, a=[DONE]), []

    async def end_ray() -> None:
        states.append(stage.writer.run_state())

    work(stage, lambda stop: stop.ask("enough"), end_ray)
    assert states[0] is ProcessState.RUNNING
    assert stage.writer.run_state() is ProcessState.STOPPED
