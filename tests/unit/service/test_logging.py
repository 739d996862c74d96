"""Log lines are JSON, carry the request id, and tell of a failure its place only."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.logging import configure_logging, describe_failure, get_logger


@pytest.fixture(autouse=True)
def _fresh_structlog() -> Iterator[None]:
    """Every test configures for itself, and leaves nothing behind."""
    structlog.reset_defaults()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, without lines below the level."""
    configure_logging("info")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        get_logger().debug("too quiet")
        get_logger().info("call", code="OK")
    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert (line["event"], line["code"], line["request_id"], line["level"]) == ("call", "OK", "r1", "info")
    assert captured.out == ""


def test_a_failure_is_described_without_its_message() -> None:
    """An exception's text may hold a user's; its type and frames do not."""
    try:
        raise ValueError("private words")
    except ValueError as error:
        described = describe_failure(error)
    assert described["error_type"] == "ValueError"
    assert "private" not in str(described)
    assert "test_a_failure_is_described_without_its_message" in str(described["error_at"])


def test_what_the_engine_logs_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object with kind and place of the error, and nothing that may hold a user's text."""
    configure_logging("info")
    configure_logging("info")
    try:
        raise ValueError("private words")
    except ValueError:
        logging.getLogger("service.engine.worker").exception("a decode step failed")
    logging.getLogger("asyncio").error("never retrieved\nfuture: private words")
    logging.getLogger("somebody").warning("said %s", "private words")
    logging.getLogger("somebody").info("said much")
    lines = capsys.readouterr().err.splitlines()
    assert not any("private" in line for line in lines)
    step, future, warning = map(json.loads, lines)
    assert (step["event"], step["level"], step["error_type"]) == ("a decode step failed", "error", "ValueError")
    assert (step["logger"], len(step["error_at"])) == ("service.engine.worker", 1)
    assert (future["event"], warning["event"], warning["level"]) == ("never retrieved", "said %s", "warning")
