"""Structured logs: one JSON object per line on standard error, with the request id, never with a user's text."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import structlog
from structlog.typing import FilteringBoundLogger


def configure_logging(level: str) -> None:
    """Sends structlog's events, as JSON lines, to standard error; `level` is the least severe name that is written.

    What is logged with the standard library, as the engine does, becomes such a line too.
    """
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
    root = logging.getLogger()
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    if not any(isinstance(handler, _Forwarding) for handler in root.handlers):
        root.addHandler(_Forwarding())


class _Forwarding(logging.Handler):
    """Tells the standard library's records as events: without arguments, further lines and messages of exceptions, all
    of which may hold a user's text."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        error = record.exc_info[1] if record.exc_info else None
        failure = describe_failure(error) if error is not None else {}
        level = record.levelno // 10 * 10  # structlog knows the five usual ones
        get_logger().log(level, str(record.msg).partition("\n")[0], logger=record.name, **failure)


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
