"""The one table from our errors to gRPC statuses, with google.rpc details (https://google.aip.dev/193)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2

from service.errors import (
    CancelledError,
    DeadlineError,
    DragomanError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)

ERROR_DOMAIN = "dragoman"
INTERNAL_MESSAGE = "internal error; the request id finds it in the server's log"
# What UNAVAILABLE answers tell clients to wait: long enough to find another replica.
UNAVAILABLE_RETRY_SECONDS = 0.1

# The first class that an error is an instance of counts.
_TABLE: tuple[tuple[type[DragomanError], grpc.StatusCode, str], ...] = (
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    (NotFoundError, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    (QuotaError, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE"),
    (CancelledError, grpc.StatusCode.CANCELLED, "CANCELLED"),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE, "NOT_SERVING"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatus:
    """How an error leaves the server: its gRPC code, and the google.rpc.Status with the details."""

    code: grpc.StatusCode
    status: status_pb2.Status
    retry_seconds: float | None = None

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The details as gRPC carries them, and the pushback that gRPC clients obey when they retry."""
        metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", self.status.SerializeToString())]
        if self.retry_seconds is not None:
            metadata.append(("grpc-retry-pushback-ms", str(max(1, round(self.retry_seconds * 1000)))))
        return tuple(metadata)


def error_status(error: Exception, *, request_id: str) -> ErrorStatus:
    """The status of any exception; one that is not in the table is INTERNAL and says nothing of its cause."""
    code, reason, text = _classify(error)
    retry_seconds = _retry_seconds(error)
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if isinstance(error, InvalidInputError) and error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        text = f"{error.field}: {text}"
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=retry_seconds))
        details.append(retry)
    status = status_pb2.Status(code=code.value[0], message=text, details=[_packed(detail) for detail in details])
    return ErrorStatus(code=code, status=status, retry_seconds=retry_seconds)


def _classify(error: Exception) -> tuple[grpc.StatusCode, str, str]:
    for kind, code, reason in _TABLE:
        if isinstance(error, kind):
            return code, reason, str(error)
    return grpc.StatusCode.INTERNAL, "INTERNAL", INTERNAL_MESSAGE


def _retry_seconds(error: Exception) -> float | None:
    if isinstance(error, OverloadedError):
        return error.retry_after_seconds
    return UNAVAILABLE_RETRY_SECONDS if isinstance(error, UnavailableError) else None


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
