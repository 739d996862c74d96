"""What the page's requests are answered with: JSON, and the wire's errors as HTTP statuses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus

import grpc

from service.rpc.status import error_status

_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """One HTTP answer."""

    body: bytes
    content_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = field(default=())


def json_answer(value: object) -> PageAnswer:
    """`value` as JSON."""
    return PageAnswer(body=json.dumps(value, ensure_ascii=False).encode())


def refusal(status: HTTPStatus, message: str, *, headers: tuple[tuple[str, str], ...] = ()) -> PageAnswer:
    """An error that the page shows as it is."""
    return PageAnswer(body=json.dumps({"message": message}).encode(), status=status, headers=headers)


def failure(error: Exception, *, request_id: str) -> PageAnswer:
    """What the gRPC edge would answer; an error that nobody expected says nothing of its cause."""
    answer = error_status(error, request_id=request_id)
    status = _STATUSES.get(answer.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    again = () if answer.retry_seconds is None else (("Retry-After", str(max(1, round(answer.retry_seconds)))),)
    return refusal(status, answer.status.message, headers=again)
