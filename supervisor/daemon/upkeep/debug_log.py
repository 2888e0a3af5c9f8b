"""Writes logs/debug.jsonl: diagnostics of libraries and of our own code; rotated, not fsynced."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any

import structlog

from supervisor.filesystem import is_open_at
from supervisor.home import Home
from supervisor.redaction import redact


def set_up_logging(home: Home) -> None:
    """Write log records to debug.jsonl as JSON lines, and to standard error."""
    handler = _DebugLog(home.logs / "debug.jsonl", maxBytes=50_000_000, backupCount=3)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.dict_tracebacks,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
                _without_secrets,
            ],
        )
    )
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(_PlainFormatter(logging.BASIC_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler, plain])


class _DebugLog(logging.handlers.RotatingFileHandler):
    """Rotates its file, and opens it again once another program has renamed or removed it."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream and not is_open_at(Path(self.baseFilename), self.stream.fileno()):
            self.stream.close()
            self.stream = None  # the handler then opens it, as after a rollover
        super().emit(record)


def _without_secrets(_: Any, __: str, line: Any) -> str:
    """Redact the whole line, as the last step: a trace may quote secrets too."""
    return redact(line if isinstance(line, str) else line.decode())


class _PlainFormatter(logging.Formatter):
    """Formats and redacts a record for standard error, which is logs/daemon.log."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def reopen_debug_log() -> None:
    """Open debug.jsonl again, after another program has renamed it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.RotatingFileHandler):
            handler.acquire()
            try:
                handler.close()
                handler.stream = handler._open()  # noqa: SLF001 - what the handler itself does after a rollover
            finally:
                handler.release()
