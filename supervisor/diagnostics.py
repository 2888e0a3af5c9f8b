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
