"""The file of an attempt's prints has the first and the last bytes, whatever the disk does, and is read to the end."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.processes import print_file
from supervisor.processes.print_file import (
    GAP_BYTES,
    MAX_FILES,
    MAX_LAST_CHARACTERS,
    MAX_LAST_LINES,
    PrintFile,
    PrintReader,
    attempts_in,
    last_printed,
    print_path,
)

HEAD, TAIL = 40, 60
GAP = re.compile(rb"\n\[\.\.\. (\d+) bytes were left out here \.\.\.\] *\n")


def chunks_of(most_bytes: int) -> st.SearchStrategy[list[bytes]]:
    """Bytes in which no gap begins."""
    one = st.binary(min_size=1, max_size=most_bytes).map(lambda data: data.replace(b"[", b"\n"))
    return st.lists(one, max_size=30)


def small(path: Path) -> PrintFile:
    return PrintFile(path, HEAD, TAIL)


def parts(text: bytes) -> tuple[bytes, int, bytes]:
    """What stands before the gap, how much is left out, and what stands after it."""
    found = GAP.search(text)
    return (text, 0, b"") if found is None else (text[: found.start()], int(found[1]), text[found.end() :])


def test_what_fits_is_kept_as_it_was_printed(tmp_path: Path) -> None:
    path = print_path(tmp_path / "17", 2)
    file = PrintFile(path)
    file.add(b"one\n")
    file.add(b"two \xff\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo \xff\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert attempts_in(tmp_path / "17") == [2]
    assert attempts_in(tmp_path / "18") == []


@settings(max_examples=200, deadline=None)
@given(chunks=chunks_of(TAIL), continued=st.integers(0, 30))
def test_the_first_and_the_last_bytes_are_kept_and_the_others_counted(chunks: list[bytes], continued: int) -> None:
    """Also where another process goes on with the file of one that died."""
    with tempfile.TemporaryDirectory() as folder:
        path, printed = Path(folder) / "attempt-1.log", b"".join(chunks)
        file = small(path)
        for number, chunk in enumerate(chunks):
            if number == continued:
                file = small(path)
            file.add(chunk)
            assert path.stat().st_size <= HEAD + GAP_BYTES + 2 * TAIL
        file.close()
        if chunks:
            first, left_out, last = parts(path.read_bytes())
            assert len(first) + left_out + len(last) == len(printed)
            assert printed.startswith(first)
            assert printed.endswith(last)
            assert len(printed) <= HEAD + TAIL or (len(first), len(last) <= TAIL) == (HEAD, True)
            assert len(printed) <= HEAD or len(last) + len(first) >= min(len(printed), HEAD + TAIL // 2)


@settings(max_examples=200, deadline=None)
@given(chunks=chunks_of(TAIL // 2))
def test_a_reader_that_keeps_up_sees_every_byte_once(chunks: list[bytes]) -> None:
    """What is kept is cut at a line, but at half of its size at most."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attempt-1.log"
        path.touch()
        file, reader = small(path), PrintReader(path, HEAD)
        seen = b""
        for chunk in chunks:
            file.add(chunk)
            seen += reader.read()
        file.close()
        assert seen + reader.read() == b"".join(chunks)


def test_a_reader_that_is_slow_is_told_how_much_it_missed(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.log"
    file, reader = small(path), PrintReader(path, HEAD)
    file.add(b"x" * 10)
    assert reader.read() == b"x" * 10
    for _ in range(100):
        file.add(b"y" * 29 + b"\n")
    file.close()
    first, left_out, last = parts(reader.read())
    assert first == (b"y" * 29 + b"\n")[: HEAD - 10]
    assert set(last) == {ord("y"), ord("\n")}
    assert len(first) + left_out + len(last) == 3000
    assert reader.read() == b""


def test_a_full_disk_costs_what_it_does_not_take_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, full = tmp_path / "attempt-1.log", os.write, [False]

    def write(descriptor: int, data: Any) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(print_file.os, "write", write)
    file = PrintFile(path)
    file.add(b"before\n")
    full[0] = True
    for _ in range(3):
        file.add(b"lost\n")
    full[0] = False
    file.add(b"after\n")
    file.close()
    assert path.read_bytes() == b"before\n\n[... 15 bytes could not be written here ...]\nafter\n"


def test_without_space_for_a_second_file_the_last_part_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(print_file, "replacing", no_space)
    path, reader = tmp_path / "attempt-1.log", PrintReader(tmp_path / "attempt-1.log", HEAD)
    file = small(path)
    seen = b""
    for number in range(50):
        file.add(f"line {number:03} ....\n".encode())
        seen += reader.read()
        assert path.stat().st_size <= HEAD + GAP_BYTES + 2 * TAIL
    first, left_out, last = parts(path.read_bytes())
    assert len(first) + left_out + len(last) == 50 * 14
    assert last.endswith(b"line 049 ....\n")
    assert seen.startswith(b"line 000 ....\nline 001 ....\n")


def test_a_file_that_cannot_be_made_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "17").write_text("a file where the folder should be")
    file = PrintFile(print_path(tmp_path / "17", 1))
    file.add(b"lost\n")
    file.close()
    assert attempts_in(tmp_path / "17") == []


def test_the_files_of_a_trials_oldest_attempts_go(tmp_path: Path) -> None:
    for attempt in range(1, MAX_FILES + 4):
        file = PrintFile(print_path(tmp_path / "17", attempt))
        file.add(b"one\n")
        file.close()
    assert attempts_in(tmp_path / "17") == list(range(4, MAX_FILES + 4))


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "attempt-1.log").symlink_to(tmp_path / "elsewhere")
    PrintFile(tmp_path / "attempt-1.log").add(b"secret\n")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("printed", "last"),
    [
        (b"one\ntwo\n", "one\ntwo"),
        (b"one\n\n\nhalf", "one\nhalf"),
        (b" 10 %\r 50 %\r100 %\nend\r\n", "100 %\nend"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\n", "red text"),
        (b"caf\xc3\xa9 \xff \x00\x08end\n", "café \ufffd end"),
        (b"\n \n\x1b[2J\n", None),
        (b"", None),
    ],
)
def test_the_last_lines_are_plain_text(tmp_path: Path, printed: bytes, last: str | None) -> None:
    path = tmp_path / "attempt-1.log"
    path.write_bytes(printed)
    assert last_printed(path) == last


def test_the_last_lines_are_few_and_of_a_file_that_is_not_there_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.log"
    assert last_printed(path) is None
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    found = last_printed(path)
    assert found is not None
    assert found.splitlines() == [f"line {number}" for number in range(100_000 - MAX_LAST_LINES, 100_000)]
    path.write_bytes(b"x" * 1_000_000)
    assert len(last_printed(path) or "") == MAX_LAST_CHARACTERS
