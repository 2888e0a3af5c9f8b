"""logs/debug.jsonl: what libraries and our own code have to say beside the events; rotated, not fsynced."""

from __future__ import annotations

import logging
import logging.handlers
import sys

import structlog

from supervisor.home import Home


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
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler, logging.StreamHandler(sys.stderr)])


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
