"""What is counted, logged and traced of every call, and how many may run at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import structlog

from service.errors import DeadlineRefusalError, OverloadedError, QuotaError, UnauthenticatedError
from service.logging import describe_failure, get_logger
from service.metrics import Metrics, exemplar, length_class
from service.rpc.call import Call, enter_call
from service.rpc.status import ErrorStatus, error_status

_FULL_RETRY_SECONDS = 0.25
"""When to come back to a server that has all the calls it may have."""


class CallAccounting:
    """Used from one event loop, by whatever way calls come."""

    def __init__(self, metrics: Metrics, *, log_calls: bool, max_calls: int) -> None:
        self._metrics = metrics
        self._log_calls = log_calls
        self._max_calls = max_calls
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when no call runs."""
        await self._idle.wait()

    def refuse_if_full(self) -> None:
        """Raises OverloadedError when as many calls run as may."""
        if self._running >= self._max_calls:
            raise OverloadedError("this server has all the calls it may", retry_after_seconds=_FULL_RETRY_SECONDS)

    @contextmanager
    def accounted(self, call: Call) -> Iterator[None]:
        """Around a call that came by another way than gRPC: the same bound, metrics, trace and log line.

        Errors go on to the caller. Raises OverloadedError.
        """
        self.refuse_if_full()
        with self.running(call):
            try:
                yield
            except Exception as error:
                self.failed(call, error)
                raise
            else:
                self.ended(call, grpc.StatusCode.OK)

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Around the whole of a call, which becomes this task's."""
        enter_call(call)
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        self._running += 1
        self._idle.clear()
        in_flight = self._metrics.requests_in_flight.labels(call.method)
        in_flight.inc()
        try:
            yield
        finally:
            in_flight.dec()
            self._running -= 1
            if not self._running:
                self._idle.set()

    def failed(self, call: Call, error: Exception) -> ErrorStatus:
        """The call ended with `error`; the status that its client is to see."""
        answer = error_status(error, request_id=call.request_id)
        if answer.code is grpc.StatusCode.INTERNAL:
            get_logger().error("call_failed", method=call.method, **describe_failure(error))
        if isinstance(error, QuotaError) and call.caller is not None:
            self._metrics.token_refusals.labels(call.caller.name, error.limit).inc()
        if isinstance(error, (OverloadedError, DeadlineRefusalError, UnauthenticatedError)):
            self._metrics.refusal_seconds.labels(call.method).observe(call.seconds)
        self.ended(call, answer.code)
        return answer

    def ended(self, call: Call, code: grpc.StatusCode) -> None:
        """The call ended with `code`."""
        metrics, seconds = self._metrics, call.seconds
        metrics.requests.labels(call.method, call.model, code.name).inc()
        if code is grpc.StatusCode.OK:
            latency = metrics.request_seconds.labels(call.method, call.model, length_class(call.characters))
            latency.observe(seconds, exemplar(call.trace_id))
        if code is grpc.StatusCode.CANCELLED:
            metrics.cancellations.labels(call.method).inc()
        if code is grpc.StatusCode.OK and call.client_seconds is not None:
            metrics.deadline_slack.labels(call.method).observe(max(0.0, call.client_seconds - seconds))
        if call.span is not None:
            call.span.end(code, model=call.model)
        if self._log_calls:
            get_logger().info(
                "call",
                method=call.method,
                code=code.name,
                seconds=round(seconds, 6),
                model=call.model,
                caller=call.caller.name if call.caller is not None else "",
                content_count=call.content_count,
                source_tokens=call.source_tokens,
                target_tokens=call.target_tokens,
            )
