"""A worker process answers in JSON within its limits, and it never outlives its caller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import WorkerFailed
from supervisor.processes.json_worker import LAST_WORDS_BYTES, JsonWorker, json_pieces, python_module
from tests.waits import NET_S

NEVER_S = 600.0
"""A deadline that no test reaches."""
WITH_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1] + ".part").write_text(str(child.pid))
pathlib.Path(sys.argv[1] + ".part").rename(sys.argv[1])
"""
"""Starts a child that inherits the worker's pipes, and writes its pid into a file."""


def worker(code: str, *arguments: str, deadline_s: float = NEVER_S, max_answer_bytes: int = 10_000) -> JsonWorker:
    return JsonWorker((sys.executable, "-c", code, *arguments), dict(os.environ), deadline_s, max_answer_bytes)


def failure(code: str, *arguments: str, **limits: Any) -> WorkerFailed:
    with pytest.raises(WorkerFailed) as caught:
        asyncio.run(worker(code, *arguments, **limits).ask({}))
    return caught.value


def ends(pid: int) -> bool:
    """Wait until process `pid` has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            psutil.wait_procs([process], timeout=NET_S)
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_answer_is_the_json_that_the_child_writes() -> None:
    code = "import json, sys; json.dump({'twice': 2 * json.load(sys.stdin)['number']}, sys.stdout)"
    assert asyncio.run(worker(code).ask({"number": 21})) == {"twice": 42}


def test_a_child_without_an_answer_is_judged_by_its_exit_status() -> None:
    assert asyncio.run(worker("import sys; sys.stdin.read()").run({})) == b""


def test_a_request_larger_than_a_pipe_arrives_whole() -> None:
    assert asyncio.run(worker("import sys; print(len(sys.stdin.read()))").ask("x" * 1_000_000)) == 1_000_002


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.text() | st.integers() | st.booleans() | st.none()


@given(st.recursive(ATOMS, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(KEYS, inner)))
def test_the_pieces_of_a_request_are_its_json(value: object) -> None:
    assert "".join(json_pieces(value)) == json.dumps(value)


def test_no_piece_of_a_long_runs_snapshot_is_longer_than_a_trial() -> None:
    trial = {"number": 1, "params": {"x": 0.5}, "results": [[step, 0.5, 1.0] for step in range(50)]}
    view = {"run": {"id": "r"}, "experiments": [{"name": "a", "trials": [trial] * 2_000}]}
    assert max(map(len, json_pieces(view))) <= len(json.dumps(trial))


def test_a_request_is_encoded_in_another_thread() -> None:
    seen: list[int] = []

    class Watched(dict[str, int]):
        def items(self) -> Any:
            seen.append(threading.get_ident())
            return super().items()

    request, code = Watched(a=1), "import sys; sys.stdin.readline(); print(sys.stdin.read())"

    async def story() -> Any:
        waiting = await worker(code).start()
        await waiting.send_ahead(request)
        return await waiting.ask(request)

    assert asyncio.run(story()) == {"a": 1}
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_a_request_that_is_no_json_ends_the_child() -> None:
    before = psutil.Process().children()
    with pytest.raises(TypeError):
        asyncio.run(worker("import time; time.sleep(600)").ask({1, 2}))
    assert psutil.Process().children() == before


def test_a_child_that_does_not_read_its_request_can_answer() -> None:
    assert asyncio.run(worker("print(1)").ask("x" * 1_000_000)) == 1


def test_the_child_sees_only_the_given_environment() -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    child = JsonWorker((sys.executable, "-c", code), {"GIVEN": "1", "LC_ALL": "C.UTF-8"}, NEVER_S)
    assert asyncio.run(child.ask(None)) == {"GIVEN": "1", "LC_ALL": "C.UTF-8"}


def test_a_failure_carries_the_exit_status_and_the_end_of_standard_error() -> None:
    error = failure("import sys; sys.stderr.write('x' * 100_000 + ' the end'); sys.exit(3)")
    assert error.problem == "ended with exit code 3"
    assert error.last_words.endswith("x the end")
    assert len(error.last_words) == LAST_WORDS_BYTES
    assert error.message == f"{error.problem}: {error.last_words}"


def test_a_child_that_a_signal_ended_is_reported_by_the_signals_name() -> None:
    assert failure("import os; os.kill(os.getpid(), 9)").message == "ended with signal SIGKILL"


def test_an_answer_that_is_not_json_is_refused_without_being_quoted() -> None:
    error = failure("print('hunter2')")
    assert error.message == "answered with something other than JSON (8 bytes)"


def test_a_child_that_writes_without_end_is_ended() -> None:
    error = failure("while True: print('x' * 1000)", max_answer_bytes=5_000)
    assert error.message == "wrote more than 5000 bytes"


def test_a_child_that_writes_errors_without_end_is_ended_at_the_deadline() -> None:
    error = failure("import sys\nwhile True: sys.stderr.write('x' * 1000)", deadline_s=0.2)
    assert error.message == "took longer than 0.2 s"


def test_a_command_that_does_not_exist_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="cannot start"):
        asyncio.run(JsonWorker((str(tmp_path / "nothing"),), {}, NEVER_S).ask({}))


def test_a_process_that_the_child_leaves_behind_is_ended_and_delays_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert asyncio.run(worker(WITH_CHILD + "print(1)", str(file)).ask({})) == 1
    assert ends(int(file.read_text()))


def test_a_child_that_waits_gets_a_line_ahead_and_then_its_request() -> None:
    code = "import json, sys; first = sys.stdin.readline(); print(json.dumps([first, sys.stdin.read()]))"

    async def story() -> Any:
        waiting = await worker(code).start()
        await waiting.send_ahead({"draw": 1})
        assert waiting.lives
        return await waiting.ask([2])

    assert asyncio.run(story()) == ['{"draw": 1}\n', "[2]"]


def test_a_child_that_waits_and_is_not_asked_ends_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def story() -> int:
        waiting = await worker(WITH_CHILD + "sys.stdin.read()", str(file)).start()
        while not file.exists():
            await asyncio.sleep(0.01)
        await waiting.end()
        assert not waiting.lives
        await waiting.end()
        return waiting.pid

    assert ends(asyncio.run(story()))
    assert ends(int(file.read_text()))


def test_a_child_that_died_while_it_waited_is_a_failure_when_it_is_asked() -> None:
    async def story() -> WorkerFailed:
        waiting = await worker("import sys; sys.exit('bad start')").start()
        while waiting.lives:
            await asyncio.sleep(0.01)
        with pytest.raises(WorkerFailed) as caught:
            await waiting.ask({})
        return caught.value

    assert asyncio.run(story()).message == "ended with exit code 1: bad start"


def test_the_child_is_ended_at_the_deadline() -> None:
    before = psutil.Process().children()
    assert failure("import time; time.sleep(600)", deadline_s=0.2).message == "took longer than 0.2 s"
    assert psutil.Process().children() == before


def test_cancelling_the_wait_ends_the_child_and_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = worker(WITH_CHILD + "import time; time.sleep(600)", str(file))

    async def cancelled() -> None:
        work = asyncio.create_task(child.ask({}))
        while not file.exists():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    assert ends(int(file.read_text()))


def test_a_module_of_this_installation_is_found_and_a_file_beside_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    found = JsonWorker(python_module("json.tool", "--compact"), dict(os.environ), NEVER_S)
    assert asyncio.run(found.ask({"a": [1]})) == {"a": [1]}
