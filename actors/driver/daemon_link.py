"""The driver's end of the pipes to the daemon.

A message that must not be lost gets an id and is kept until the daemon acknowledges that it has committed it. End of
file means that the daemon died: the driver ends too, and the next one starts from the store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from actors.driver.process_local import PerProcess
from supervisor.domain.codec import MAX_LINE_BYTES, UNACKNOWLEDGED, LinkError, decode, encode
from supervisor.domain.messages import Ack, Message

MAX_KEPT = 10_000
"""Bound of unacknowledged messages: the search waits while the daemon is so far behind."""

MAX_WAIT_S = 600.0


class DaemonLink(PerProcess):
    """Sends from any thread; its own thread receives: it calls `on_message` and, at the end, `on_eof`."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        super().__init__()
        self._read_fd, self._write_fd = read_fd, write_fd
        self._kept: dict[int, Message] = {}
        self._next_id = 1
        self._writing = threading.Lock()
        self._acked = threading.Condition()

    def send(self, message: Message) -> None:
        """Write one message; block while the daemon is too far behind. `on_eof` handles a closed pipe.

        Raises TypeError and LinkError for a message that cannot be sent; it waits for no acknowledgement.
        """
        number = None if isinstance(message, UNACKNOWLEDGED) else self._keep(message)
        try:
            line = encode(message, number)
        except BaseException:
            if number is not None:
                self._acknowledge(number)
            raise
        with self._writing:
            self._write(line)

    def _keep(self, message: Message) -> int:
        with self._acked:
            self._acked.wait_for(lambda: len(self._kept) < MAX_KEPT, timeout=MAX_WAIT_S)
            number = self._next_id
            self._next_id += 1
            self._kept[number] = message
        return number

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(self._write_fd, view) :]
            except BrokenPipeError:
                # The receiving thread sees end of file and ends the driver.
                return

    def wait_until_acknowledged(self, timeout_s: float) -> int:
        """Wait until the daemon has committed all messages; return the number that it has not."""
        with self._acked:
            self._acked.wait_for(lambda: not self._kept, timeout=timeout_s)
            return len(self._kept)

    def receive(self, on_message: Callable[[Message], None], on_eof: Callable[[], None]) -> threading.Thread:
        """Start receiving. A line that is no message counts as end of file: the two sides do not fit."""
        thread = threading.Thread(target=self._receive, args=(on_message, on_eof), name="daemon-link", daemon=True)
        thread.start()
        return thread

    def _receive(self, on_message: Callable[[Message], None], on_eof: Callable[[], None]) -> None:
        try:
            with os.fdopen(self._read_fd, "rb") as stream:
                while line := stream.readline(MAX_LINE_BYTES + 1):
                    message, _ = decode(line)
                    if isinstance(message, Ack):
                        self._acknowledge(message.of)
                    else:
                        on_message(message)
        except (OSError, LinkError) as error:
            os.write(2, f"the daemon's pipe: {error}\n".encode())
        on_eof()

    def _acknowledge(self, number: int) -> None:
        with self._acked:
            self._kept.pop(number, None)
            self._acked.notify_all()
