"""Around every call: its request id, the status of its errors, one log line, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeAlias, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from service.errors import (
    DeadlineRefusalError,
    DragomanError,
    InvalidInputError,
    OverloadedError,
    QuotaError,
    UnauthenticatedError,
)
from service.logging import describe_failure, get_logger
from service.metrics import Metrics, exemplar, length_class
from service.rpc.authentication import Authenticator, Caller
from service.rpc.call import REQUEST_ID_KEY, Call, current_call, enter_call, request_id_from
from service.rpc.response_size import check_response_size
from service.rpc.spans import CallTracer
from service.rpc.status import ErrorStatus, error_status
from service.rpc.trace_context import TRACEPARENT_KEY, trace_id_from

SERVICE = "dragoman.v1.TranslationService"
GOOGLE_SERVICE = "google.cloud.translation.v3.TranslationService"
GOOGLE_METHODS = frozenset({"TranslateText", "GetSupportedLanguages"})

_FULL_RETRY_SECONDS = 0.25
"""When to come back to a server that has all the calls it may have."""

# What gRPC hands around is untyped: messages of any method. (Quoted, as these are generic in the stubs only.)
Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class _Malformed:
    """Stands for a request whose bytes are not a message of its type."""


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Wraps the methods of the translation services, ours and Google's; others, such as health, pass as they are."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        log_calls: bool,
        max_calls: int,
        max_message_bytes: int,
        authenticator: Authenticator | None = None,
        tracer: CallTracer | None = None,
    ) -> None:
        self._metrics = metrics
        self._log_calls = log_calls
        self._max_calls = max_calls
        self._max_message_bytes = max_message_bytes
        self._authenticator = authenticator
        self._tracer = tracer
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when no call of a translation service runs."""
        await self._idle.wait()

    @contextmanager
    def accounted(self, call: Call) -> Iterator[None]:
        """Around a call that came by another way than gRPC: the same bound, metrics, trace and log line.

        Errors go on to the caller. Raises OverloadedError.
        """
        self._refuse_if_full()
        enter_call(call)
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        with self._counted(call.method):
            try:
                yield
            except Exception as error:
                code = error_status(error, request_id=call.request_id).code
                if code is grpc.StatusCode.INTERNAL:
                    get_logger().error("call_failed", method=call.method, **describe_failure(error))
                self._ended(call, code)
                raise
            else:
                self._ended(call, grpc.StatusCode.OK)

    def _refuse_if_full(self) -> None:
        if self._running >= self._max_calls:
            raise OverloadedError("this server has all the calls it may", retry_after_seconds=_FULL_RETRY_SECONDS)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service not in (SERVICE, GOOGLE_SERVICE):
            return handler
        try:
            caller = self._admit(handler_call_details)
        except DragomanError as refusal:
            return self._refused(refusal, method)
        return self._wrapped(handler, method, caller)

    def _admit(self, details: grpc.HandlerCallDetails) -> Caller | None:
        """Who calls. Raises OverloadedError, UnauthenticatedError."""
        self._refuse_if_full()
        if self._authenticator is None:
            return None
        return self._authenticator.caller_of(details.invocation_metadata or ())

    def _refused(self, refusal: DragomanError, method: str) -> Handler:
        """Answers with an error and reads no message, whatever the method's messages are."""

        async def refuse(requests: AsyncIterator[object], context: Context) -> object:
            async with self._around(method, context, None):
                raise refusal

        return grpc.stream_unary_rpc_method_handler(refuse)

    def _wrapped(self, handler: Handler, method: str, caller: Caller | None) -> Handler:
        deserializer, serializer = _tolerant(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary:
            unary = cast("Callable[[object, Context], Awaitable[object]]", handler.unary_unary)

            async def answer(request: object, context: Context) -> object:
                async with self._around(method, context, caller):
                    response = await unary(_checked(request), context)
                    check_response_size(response, max_bytes=self._max_message_bytes)
                    await _send_request_id(context)
                    return response

            return grpc.unary_unary_rpc_method_handler(answer, deserializer, serializer)
        if handler.unary_stream:
            stream = cast("Callable[[object, Context], AsyncGenerator[object]]", handler.unary_stream)

            async def answers(request: object, context: Context) -> AsyncIterator[object]:
                async with (
                    self._around(method, context, caller),
                    aclosing(stream(_checked(request), context)) as responses,
                ):
                    async for response in _with_request_id(responses, context):
                        check_response_size(response, max_bytes=self._max_message_bytes)
                        yield response

            return grpc.unary_stream_rpc_method_handler(answers, deserializer, serializer)
        bulk = cast("Callable[[AsyncIterator[object], Context], AsyncGenerator[object]]", handler.stream_stream)

        async def exchange(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
            async with (
                self._around(method, context, caller),
                aclosing(bulk(_all_checked(requests), context)) as responses,
            ):
                async for response in _with_request_id(responses, context):
                    yield response

        return grpc.stream_stream_rpc_method_handler(exchange, deserializer, serializer)

    @asynccontextmanager
    async def _around(self, method: str, context: Context, caller: Caller | None) -> AsyncIterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        call = Call(
            method=method,
            request_id=request_id_from(metadata.get(REQUEST_ID_KEY)),
            trace_id=trace_id_from(metadata.get(TRACEPARENT_KEY)),
            client_seconds=context.time_remaining(),
            caller=caller,
        )
        if self._tracer is not None:
            service = GOOGLE_SERVICE if method in GOOGLE_METHODS else SERVICE
            call.span = self._tracer.begin(f"{service}/{method}", metadata)
            call.trace_id = call.span.trace_id
        enter_call(call)
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        with self._counted(method):
            try:
                if caller is not None:
                    caller.quota.charge_call()
                yield
            except asyncio.CancelledError:
                self._ended(call, _code_of_cancellation(call))
                raise
            except (aio.AbortError, GeneratorExit):
                self._ended(call, grpc.StatusCode.CANCELLED)
                raise
            except Exception as error:
                await self._fail(call, error, context)
            else:
                self._ended(call, grpc.StatusCode.OK)

    async def _fail(self, call: Call, error: Exception, context: Context) -> None:
        answer: ErrorStatus = error_status(error, request_id=call.request_id)
        if answer.code is grpc.StatusCode.INTERNAL:
            get_logger().error("call_failed", method=call.method, **describe_failure(error))
        if isinstance(error, QuotaError) and call.caller is not None:
            self._metrics.token_refusals.labels(call.caller.name, error.limit).inc()
        if isinstance(error, (OverloadedError, DeadlineRefusalError, UnauthenticatedError)):
            self._metrics.refusal_seconds.labels(call.method).observe(call.seconds)
        self._ended(call, answer.code)
        trailing_metadata = ((REQUEST_ID_KEY, call.request_id), *answer.trailing_metadata())
        await context.abort(answer.code, answer.status.message, trailing_metadata)

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        in_flight = self._metrics.requests_in_flight.labels(method)
        in_flight.inc()
        try:
            yield
        finally:
            in_flight.dec()
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _ended(self, call: Call, code: grpc.StatusCode) -> None:
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


async def _send_request_id(context: Context) -> None:
    """Sends the request id ahead of an answer. Never ahead of an error: gRPC retries no call whose answer has begun."""
    await context.send_initial_metadata(((REQUEST_ID_KEY, current_call().request_id),))


async def _with_request_id(responses: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
    first = True
    async for response in responses:
        if first:
            await _send_request_id(context)
            first = False
        yield response


def _code_of_cancellation(call: Call) -> grpc.StatusCode:
    """gRPC cancels a handler both when its client leaves and when the client's deadline passes."""
    expired = call.client_seconds is not None and call.seconds >= call.client_seconds
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED


def _tolerant(deserialize: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
    """Bytes that are no message become a value that `_checked` refuses, where gRPC itself would answer INTERNAL."""

    def parse(data: bytes) -> object:
        try:
            return deserialize(data) if deserialize is not None else data
        except (DecodeError, ValueError):
            return _Malformed()

    return parse


def _checked(request: object) -> object:
    if isinstance(request, _Malformed):
        raise InvalidInputError("the request is not a message of this method's type")
    return request


async def _all_checked(requests: AsyncIterator[object]) -> AsyncIterator[object]:
    async for request in requests:
        yield _checked(request)
