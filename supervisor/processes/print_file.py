"""Keeps an attempt's first and last prints in one file of bounded size, and reads it.

Layout: HEAD_BYTES as they were printed; where more came than fits, a gap of GAP_BYTES with the number of bytes that are
left out there; then the last ones. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from supervisor.filesystem import replacing
from supervisor.formatting import ESCAPES

HEAD_BYTES = TAIL_BYTES = 512 * 1024
GAP_BYTES = 64
MAX_FILES = 20
"""The files of one trial: pauses may give it any number of attempts. The oldest go."""

_GAP = re.compile(rb"\n\[\.\.\. (\d{1,19}) bytes were left out here \.\.\.\] *\n")

MAX_LAST_BYTES, MAX_LAST_LINES, MAX_LAST_CHARACTERS = 16 * 1024, 20, 2_000
"""Bounds of the last lines that an event of a failure carries."""

_NAME = re.compile(r"attempt-(\d{1,9})\.log")


def print_path(trial_folder: Path, attempt: int) -> Path:
    """Return the path of the file of one attempt."""
    return trial_folder / f"attempt-{attempt}.log"


def attempts_in(trial_folder: Path) -> list[int]:
    """Return the attempts that have such a file, oldest first."""
    if not trial_folder.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in trial_folder.iterdir())
    return sorted(int(one[1]) for one in found if one)


def _gap(left_out: int) -> bytes:
    text = f"\n[... {left_out} bytes were left out here ...]"
    return text.encode().ljust(GAP_BYTES - 1) + b"\n"


def _left_out(descriptor: int, head_bytes: int) -> int:
    """Return how many bytes a file leaves out, 0 without a gap."""
    found = _GAP.fullmatch(os.pread(descriptor, GAP_BYTES, head_bytes))
    return int(found[1]) if found else 0


class PrintFile:
    """Writes the file at `path`, or continues it. It never raises OSError: prints must not fail their trial.

    After `head_bytes` it keeps the last `tail_bytes` to twice as many, from `close` on the former.
    """

    def __init__(self, path: Path, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._path, self._head_bytes, self._tail_bytes = path, head_bytes, tail_bytes
        self._descriptor: int | None = None
        self._missed = 0

    def add(self, data: bytes) -> None:
        """Write bytes at the end. Those that a full or failed disk does not take are counted, and told of later."""
        if not data:
            return
        left = memoryview(data)
        try:
            descriptor = self._opened()
            if self._missed:
                os.write(descriptor, f"\n[... {self._missed} bytes could not be written here ...]\n".encode())
                self._missed = 0
            while left:
                left = left[os.write(descriptor, left) :]
            self._bound(descriptor, 2 * self._tail_bytes)
        except OSError:
            self._missed += len(left)

    def close(self) -> None:
        """Cut the last part to its size, and free the file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._bound(self._descriptor, self._tail_bytes)
            self._free()

    def _opened(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._drop_oldest()
        return self._descriptor

    def _drop_oldest(self) -> None:
        folder = self._path.parent
        for attempt in attempts_in(folder)[:-MAX_FILES]:
            with contextlib.suppress(OSError):
                print_path(folder, attempt).unlink()

    def _free(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _bound(self, descriptor: int, most_bytes: int) -> None:
        """Leave out the beginning of a last part of more than `most_bytes`."""
        size = os.fstat(descriptor).st_size
        left_out = _left_out(descriptor, self._head_bytes)
        begin = self._head_bytes + (GAP_BYTES if left_out else 0)
        if size - begin <= most_bytes:
            return
        try:
            self._rewrite(descriptor, left_out, begin, size)
        except OSError:
            # There is no space for a second file: the last part begins anew in this one.
            os.ftruncate(descriptor, self._head_bytes)
            os.write(descriptor, _gap(left_out + size - begin))

    def _rewrite(self, descriptor: int, left_out: int, begin: int, size: int) -> None:
        """Replace the file by a shorter one, whole at any moment. Raises OSError."""
        at = size - self._tail_bytes
        tail = os.pread(descriptor, self._tail_bytes, at)
        # Half a line helps nobody, but a very long one is better cut than lost.
        cut = tail.find(b"\n", 0, len(tail) // 2) + 1
        head = os.pread(descriptor, self._head_bytes, 0)
        with replacing(self._path, durable=False) as partial:
            partial.write_bytes(head + _gap(left_out + at + cut - begin) + tail[cut:])
        # The next bytes go to the file that has the name now.
        self._free()


class PrintReader:
    """Reads on in the file at `path`, also where its middle is left out meanwhile."""

    def __init__(self, path: Path, head_bytes: int = HEAD_BYTES) -> None:
        self._path, self._head_bytes = path, head_bytes
        self._seen = 0
        """Counted in bytes that were printed, those that are left out included."""

    def read(self) -> bytes:
        """Return the bytes since the last call, gaps described. Raises OSError."""
        # Opened at each call: a file that was shortened is another one.
        with self._path.open("rb") as file:
            found, left_out = b"", _left_out(file.fileno(), self._head_bytes)
            at = self._seen
            if left_out:
                found += os.pread(file.fileno(), max(0, self._head_bytes - self._seen), self._seen)
                last_part = self._head_bytes + left_out
                if self._seen < last_part:
                    found += _gap(last_part - max(self._seen, self._head_bytes))
                    self._seen = last_part
                at = self._head_bytes + GAP_BYTES + self._seen - last_part
            file.seek(at)
            rest = file.read()
        self._seen += len(rest)
        return found + rest


def last_printed(path: Path) -> str | None:
    """Return the last lines of a file as plain text, None without any. A file that cannot be read has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LAST_BYTES))
            text = file.read(MAX_LAST_BYTES).decode(errors="replace")
    except OSError:
        return None
    lines = [line for line in map(_plain, text.split("\n")) if line]
    return "\n".join(lines[-MAX_LAST_LINES:])[-MAX_LAST_CHARACTERS:] or None


def _plain(line: str) -> str:
    """Return a line as a terminal would leave it: the last state of a progress bar, without colours."""
    shown = line.rstrip("\r ").rpartition("\r")[2]
    return "".join(one for one in ESCAPES.sub("", shown) if one.isprintable() or one == "\t").rstrip()
