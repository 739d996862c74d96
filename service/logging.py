"""Structured logs: one JSON object per line on standard error, with the request id, never with a user's text."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import structlog
from structlog.typing import FilteringBoundLogger


def configure_logging(level: str) -> None:
    """Sends structlog's events, as JSON lines, to standard error; `level` is the least severe name that is written."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger() -> FilteringBoundLogger:
    """The logger of this process."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def describe_failure(error: BaseException) -> dict[str, object]:
    """Type and place of an unexpected error; its message is left out, as it may hold a user's text."""
    return {"error_type": type(error).__qualname__, "error_at": _frames(error.__traceback__)}


def _frames(traceback: TracebackType | None, limit: int = 8) -> list[str]:
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-limit:]
