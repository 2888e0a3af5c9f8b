"""logs/debug.jsonl: what libraries and our own code have to say beside the events; rotated, not fsynced."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import Any

import structlog

from supervisor.home import Home
from supervisor.redaction import redact


def set_up_logging(home: Home) -> None:
    """Diagnostics (ours, asyncio's, aiohttp's) as JSON lines; not the audit log, so not fsynced."""
    handler = logging.handlers.RotatingFileHandler(home.logs / "debug.jsonl", maxBytes=50_000_000, backupCount=3)
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


def _without_secrets(_: Any, __: str, line: Any) -> str:
    """The last step: also what a trace quotes has passed by then."""
    return redact(line if isinstance(line, str) else line.decode())


class _PlainFormatter(logging.Formatter):
    """For standard error, which is logs/daemon.log."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def reopen_debug_log() -> None:
    """The next line goes to the file of that name, as after another program has renamed the old one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.RotatingFileHandler):
            handler.acquire()
            try:
                handler.close()
                handler.stream = handler._open()  # noqa: SLF001 - what the handler itself does after a rollover
            finally:
                handler.release()
