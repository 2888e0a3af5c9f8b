"""Provide a web server on this machine that remembers what it was asked, and one that never answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Web:
    """A server: `messages` are the JSON objects that it took, `paths` the addresses; it answers with `status`."""

    port: int = 0
    status: int = 200
    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    """An address that contains "silent" is answered once this is set."""

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if "silent" in self.path:
                web.held.wait()
            web.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()

        def do_GET(self) -> None:
            if "silent" in self.path:
                web.held.wait()
            self.answer()

        def answer(self) -> None:
            web.paths.append(self.path)
            self.send_response(web.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield web
    web.held.set()
    server.shutdown()
    thread.join()
    server.server_close()
