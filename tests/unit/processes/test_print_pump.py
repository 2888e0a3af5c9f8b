"""The pump is a process of its own: it hides secrets, and ends when the last one who can print into it has ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.processes import print_pump
from supervisor.processes.print_file import PrintFile
from supervisor.processes.print_pump import FRAME_BYTES, MAX_HELD_BYTES, pump, safe_cut, whole_lines
from tests.waits import NET_S, until, until_ended

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-P", "-m", "supervisor.processes.print_pump"]


def start(path: Path, **environment: str) -> tuple[int, int]:
    """Start a pump; return the descriptor to print into, and the pump's pid."""
    reads, writes = os.pipe()
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen([*COMMAND, str(path)], stdin=reads, env=env, start_new_session=True) as begun:
        os.close(reads)
        assert begun.wait() == 0, "it leaves a child behind and ends"

    def of_that_session() -> list[int]:
        return [one.pid for one in psutil.process_iter() if one.pid != begun.pid and _session(one.pid) == begun.pid]

    (pid,) = until("the pump is there", of_that_session)
    return writes, pid


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_it_writes_all_until_its_pipe_is_closed_and_no_signal_but_kill_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "17" / "attempt-1.log"
    writes, pid = start(path)
    os.write(writes, b"one\n")
    until("the line is there", lambda: path.exists() and path.read_bytes() == b"one\n")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    os.write(writes, b"two\nhalf")
    os.close(writes)
    until_ended(pid)
    assert path.read_bytes() == b"one\ntwo\nhalf"
    assert path.stat().st_mode & 0o777 == 0o600


def test_secrets_are_hidden_also_those_of_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.log"
    writes, pid = start(path, HUB_TOKEN="0123456789abcdef")
    os.write(writes, b"it is 0123456789abcdef\npassword=hush-hush\nhttps://ann:hush@host/x\n")
    os.close(writes)
    until_ended(pid)
    assert path.read_bytes() == b"it is ***\npassword=***\nhttps://***@host/x\n"


def test_the_marks_that_ray_prints_for_itself_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.log"
    writes, pid = start(path)
    os.write(writes, b":job_id:01000000\n:actor_name:Quadratic\none :task_name:x\ntwo\n")
    os.close(writes)
    until_ended(pid)
    assert path.read_bytes() == b"one :task_name:x\ntwo\n"


def test_it_leaves_its_caller_at_once_and_is_no_child_of_it(tmp_path: Path) -> None:
    writes, pid = start(tmp_path / "attempt-1.log")
    assert psutil.Process(pid).ppid() != os.getpid()
    os.close(writes)
    until_ended(pid)


def test_its_parent_begins_one_for_each_request_and_ends_with_its_socket(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    code = "import sys; from supervisor.processes.print_pump import begin_each; sys.exit(begin_each())"
    command = [sys.executable, "-P", "-c", code]
    with theirs, subprocess.Popen(command, stdin=theirs, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        writes = []
        for name in ("a", "b"):
            reads, fresh = os.pipe()
            socket.send_fds(ours, [os.fsencode(tmp_path / name).ljust(FRAME_BYTES, b"\0")], [reads])
            os.close(reads)
            writes.append(fresh)
        for fresh in reversed(writes):
            os.write(fresh, f"{fresh}\n".encode())
        for name, fresh in zip(("a", "b"), writes, strict=True):
            until(f"{name} is written", lambda name=name, fresh=fresh: _text(tmp_path / name) == f"{fresh}\n")
        ours.close()
        assert parent.wait() == 0, "it does not wait for its pumps"
        for fresh in writes:
            os.write(fresh, b"on\n")
            os.close(fresh)
        for name, fresh in zip(("a", "b"), writes, strict=True):
            until(f"{name} is written", lambda name=name, fresh=fresh: _text(tmp_path / name) == f"{fresh}\non\n")


def test_a_request_that_is_none_ends_the_parent() -> None:
    ours, theirs = socket.socketpair()
    code = "import sys; from supervisor.processes.print_pump import begin_each; sys.exit(begin_each())"
    with (
        theirs,
        subprocess.Popen(
            [sys.executable, "-P", "-c", code], stdin=theirs, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ) as parent,
    ):
        ours.sendall(b"x" * FRAME_BYTES)
        assert parent.wait() == 0
    ours.close()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_half_a_line_is_shown_when_nothing_follows(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.log"
    writes, pid = start(path)
    os.write(writes, b"how many? ")
    until("the question is there", lambda: path.exists() and path.read_bytes() == b"how many? ")
    os.close(writes)
    until_ended(pid)


def test_what_hides_secrets_gets_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pipe cuts them, bytes that are no text included."""
    monkeypatch.setattr(print_pump, "CHUNK_BYTES", 3)
    monkeypatch.setattr(print_pump, "HELD_S", 60.0)
    reads, writes = os.pipe()
    os.write(writes, b"abcdefgh\nij\xff\r\nk\nlast")
    os.close(writes)
    seen: list[str] = []

    def hide(text: str) -> str:
        seen.append(text)
        return text

    pump(reads, PrintFile(tmp_path / "f"), hide)
    os.close(reads)
    assert (tmp_path / "f").read_bytes() == b"abcdefgh\nij\xff\r\nk\nlast"
    assert [text for text in seen if not text.endswith(("\n", "\r"))] == ["last"]


@given(data=st.lists(st.sampled_from([b"ab", b" ", b"\n", b"\r", b"\xff"]), max_size=50).map(b"".join))
def test_lines_and_rest_are_the_whole(data: bytes) -> None:
    lines, rest = whole_lines(data)
    assert lines + rest == data
    assert not set(rest) & {0x0A, 0x0D}
    assert lines == b"" or lines[-1] in (0x0A, 0x0D)


def pumped(folder: Path, data: bytes) -> bytes:
    """Return the text that the file keeps of `data`, a line without an end, that comes in pieces."""
    reads, writes = os.pipe()

    def feed() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(writes, view) :]
        os.close(writes)

    feeder = threading.Thread(target=feed)
    feeder.start()
    pump(reads, PrintFile(folder / "f", head_bytes=1 << 24))
    feeder.join()
    os.close(reads)
    return (folder / "f").read_bytes()


SECRET = b"0123456789abcdef"


@pytest.mark.parametrize(
    "text", [SECRET, b"password=hush-hush-hush", b"https://ann:hush-hush@host", b"Bearer " + SECRET]
)
@pytest.mark.parametrize("blank", [b"x", b" "])
def test_no_secret_is_printed_wherever_a_long_line_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, blank: bytes
) -> None:
    monkeypatch.setenv("HUB_TOKEN", SECRET.decode())
    monkeypatch.setattr(print_pump, "HELD_S", NET_S)
    monkeypatch.setattr(print_pump, "CHUNK_BYTES", 50)
    monkeypatch.setattr(print_pump, "MAX_HELD_BYTES", 100)
    monkeypatch.setattr(print_pump, "CARRIED_BYTES", 40)
    for before in range(90, 190, 3):
        folder = tmp_path / f"{before}"
        found = pumped(folder, blank * before + b" " + text + b" " + blank * 300)
        assert SECRET not in found
        assert b"hush" not in found
        assert found.count(b"***") == 1
        assert found.startswith(blank * before)
        assert found.endswith(blank * 300)


def test_a_secret_longer_than_what_is_carried_of_a_line_has_its_whole_length_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = b"".join(b"%05d" % number for number in range(5000))
    monkeypatch.setenv("HUB_TOKEN", secret.decode())
    monkeypatch.setattr(print_pump, "HELD_S", NET_S)
    for before in (MAX_HELD_BYTES - 5, MAX_HELD_BYTES - len(secret) // 2, MAX_HELD_BYTES + 9000):
        folder = tmp_path / f"{before}"
        assert pumped(folder, b"x" * before + secret + b"y" * 200_000) == b"x" * before + b"***" + b"y" * 200_000


def test_a_line_without_any_place_to_cut_is_shown_at_its_end() -> None:
    """What looks like a secret of more than a line's bound is hidden as far as it is there."""
    assert safe_cut(b"password=" + b"x" * 1000, 100) == 1009
    assert safe_cut(b"x" * 1000, 100) == 900


def test_a_whole_line_is_no_rest() -> None:
    long = b"x" * MAX_HELD_BYTES
    assert whole_lines(b"a\n" + long) == (b"a\n", long)
