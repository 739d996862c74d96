"""The one table from errors to statuses."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from service.errors import (
    CancelledError,
    DeadlineError,
    EngineError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from service.rpc.status import INTERNAL_MESSAGE, ErrorStatus, error_status


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidInputError("too long", field="contents"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (NotFoundError("no"), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (OverloadedError("full", retry_after_seconds=0.25), grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
        (DeadlineError("late"), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE"),
        (CancelledError("gone"), grpc.StatusCode.CANCELLED, "CANCELLED"),
        (UnavailableError("draining"), grpc.StatusCode.UNAVAILABLE, "NOT_SERVING"),
        (EngineError("row 3 was NaN"), grpc.StatusCode.INTERNAL, "INTERNAL"),
        (KeyError("a user's words"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
def test_each_error_has_its_code_and_stable_reason(error: Exception, code: grpc.StatusCode, reason: str) -> None:
    """And always ErrorInfo and the request id among the details."""
    answer = error_status(error, request_id="r1")
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
    assert answer.status.details[0].Unpack(info)
    assert answer.status.details[1].Unpack(request)
    assert (answer.code, answer.status.code) == (code, code.value[0])
    assert (info.reason, info.domain, request.request_id) == (reason, "dragoman", "r1")


@pytest.mark.parametrize("error", [EngineError("row 3 was NaN"), KeyError("a user's words")])
def test_internal_errors_say_nothing_of_their_cause(error: Exception) -> None:
    """The text is the same for all of them."""
    assert error_status(error, request_id="r1").status.message == INTERNAL_MESSAGE


def test_a_bad_field_is_named() -> None:
    """As a BadRequest violation, and at the front of the message."""
    answer = error_status(InvalidInputError("must be 1 to 8", field="options.beam_size"), request_id="r1")
    violations = error_details_pb2.BadRequest()
    assert answer.status.details[2].Unpack(violations)
    (violation,) = violations.field_violations
    assert (violation.field, violation.description) == ("options.beam_size", "must be 1 to 8")
    assert answer.status.message == "options.beam_size: must be 1 to 8"


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.25, "250"), (0.0, "1"), (30.0, "30000")])
def test_a_refusal_says_when_to_come_back(seconds: float, milliseconds: str) -> None:
    """In RetryInfo for people's code, and as the pushback that gRPC clients obey; never zero, which means at once."""
    answer: ErrorStatus = error_status(OverloadedError("full", retry_after_seconds=seconds), request_id="r1")
    retry = error_details_pb2.RetryInfo()
    assert answer.status.details[2].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() == seconds
    assert dict(answer.trailing_metadata())["grpc-retry-pushback-ms"] == milliseconds
