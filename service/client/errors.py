"""What a failed call tells: the status, and the google.rpc details that the server sent with it."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class TranslationError(Exception):
    """A call that failed.

    `code` is gRPC's, `reason` the server's stable name for the cause, `field` the request field at fault,
    `retry_after_seconds` the pause it asks for, `request_id` finds the call in its log; empty or None where the server
    sent none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        field: str = "",
        retry_after_seconds: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id


def translation_error(
    code: grpc.StatusCode, message: str | None, trailing_metadata: Iterable[tuple[str, str | bytes]]
) -> TranslationError:
    """The error of a call that ended with this status."""
    packed = next((value for key, value in trailing_metadata if key == _DETAILS_KEY), b"")
    status = status_pb2.Status()
    try:
        status.ParseFromString(packed if isinstance(packed, bytes) else b"")
    except DecodeError:
        status.Clear()
    return error_from_status(status, code=code, message=message or code.name)


def error_from_status(status: status_pb2.Status, *, code: grpc.StatusCode, message: str) -> TranslationError:
    """The error that a google.rpc.Status describes; `message` is used where it has none."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo()
    found = {id(target) for target in (info, bad_request, retry, request) for d in status.details if d.Unpack(target)}
    return TranslationError(
        status.message or message,
        code=code,
        reason=info.reason,
        field=bad_request.field_violations[0].field if bad_request.field_violations else "",
        retry_after_seconds=retry.retry_delay.ToTimedelta().total_seconds() if id(retry) in found else None,
        request_id=request.request_id,
    )


def code_from_number(number: int) -> grpc.StatusCode:
    """The gRPC code of a google.rpc.Status; UNKNOWN for a number that is none."""
    return next((code for code in grpc.StatusCode if code.value[0] == number), grpc.StatusCode.UNKNOWN)
